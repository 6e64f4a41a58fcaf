"""The workflow, one module a stage; dvc.yaml joins them by the files they read and write."""

import gc

# What an import makes stays: looking for garbage in it again and again adds half to the time that TensorFlow takes.
gc.set_threshold(100_000, 50, 100)
