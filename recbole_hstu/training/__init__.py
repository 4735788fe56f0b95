"""One training: trainer, checkpoints, resuming, divergence, precision."""
