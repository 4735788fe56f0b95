"""Recommendations from files into files."""
