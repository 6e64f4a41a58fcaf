"""The caller's environment, which what is measured starts from, and this process's own kernels after it."""

import os

from few_labels.kernels import pin_kernels

ENVIRONMENT = dict(os.environ)
pin_kernels()
