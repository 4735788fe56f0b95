"""Whole studies, made of runs: compare, tune, reproduce, report."""
