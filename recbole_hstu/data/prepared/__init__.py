"""A data set read once: its events as arrays that every later start maps from files."""
