"""A checkpoint -> a folder that other programs can use, without this package."""
