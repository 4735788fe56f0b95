"""What was asked for: configuration, models by name, checks of values."""
