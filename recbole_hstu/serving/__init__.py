"""A checkpoint -> recommendations: loading, lists, cached histories, new items, export."""
