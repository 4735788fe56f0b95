"""Atomic files to batches: exact times, sequences, loaders, item text, side-feature files."""
