"""A trained model over HTTP, and a page to look at what it does."""
