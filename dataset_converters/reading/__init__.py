"""Raw files to records: lines, tables, literals, clean text."""
