"""The published study, row by row, and what holds up over five seeds."""

from few_labels.kernels import pin_kernels

pin_kernels()
