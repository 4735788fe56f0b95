"""Files of a data set: atomic files, and files with a row an item."""
