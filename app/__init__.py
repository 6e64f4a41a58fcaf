"""Where a person labels."""
