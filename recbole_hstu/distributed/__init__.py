"""Several processes, one training: who takes part, and the loss that they share."""
