"""Records to tables, plots and HTML."""
