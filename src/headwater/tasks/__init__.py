"""Tasks: their data, their format, their metric."""
