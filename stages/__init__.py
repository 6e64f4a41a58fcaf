"""The workflow, one module a stage; dvc.yaml joins them by the files they read and write."""
