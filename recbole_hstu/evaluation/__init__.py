"""Ranks, metrics, segments and significance: arrays in, figures out. Knows no RecBole."""
