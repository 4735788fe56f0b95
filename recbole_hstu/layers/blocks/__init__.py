"""Blocks over packed rows: attention, feed-forward networks, and what they run on."""
