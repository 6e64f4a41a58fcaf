"""The published study, row by row, and what holds up over five seeds."""
