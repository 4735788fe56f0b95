"""What everybody stands on: errors, YAML values, files that appear whole, secrets masked,
Ctrl-C, memory."""
