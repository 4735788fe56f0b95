"""Files and folders: where they lie, whole or not at all, one process at a time."""
