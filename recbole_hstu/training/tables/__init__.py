"""The training of tables with millions of rows."""
