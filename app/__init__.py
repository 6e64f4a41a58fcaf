"""Where a person labels."""

from few_labels.kernels import pin_kernels

pin_kernels()
