"""The search for options: space, trials, storage, halving."""
