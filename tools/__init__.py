"""What a team needs beside the pipeline: share every run, load models safely, report on a pull request."""
