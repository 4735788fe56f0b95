"""What everybody stands on: errors, YAML values, files that appear whole, Ctrl-C, memory."""
