"""Generated queries: a language model learns from purchase histories and writes the next item."""
