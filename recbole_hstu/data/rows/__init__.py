"""Events in columns, and the rows that are laid over them."""
