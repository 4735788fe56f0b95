"""Item vectors and terms of item scores."""
