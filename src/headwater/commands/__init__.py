"""What each command of `headwater` does: options in, one call of the package. Heavy imports stand inside the functions."""
