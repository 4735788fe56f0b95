"""Text vectors to semantic ids: residual k-means, RQ-VAE, and what they are worth."""
