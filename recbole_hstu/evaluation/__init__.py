"""Ranks, metrics, segments and significance: arrays in, figures out; a collector for RecBole."""
