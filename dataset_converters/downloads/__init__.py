"""Files from the publishers: where they are, and getting them whole."""
