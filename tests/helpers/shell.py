"""Command lines of the documentation as a shell reads them."""

import subprocess


def words_of(line):
    """The words of a line, with its patterns and `$(...)` in their place; quotes are taken off."""
    echo = ["bash", "-c", f"printf '%s\\0' {line}"]
    said = subprocess.run(echo, stdout=subprocess.PIPE, check=True, text=True).stdout
    return said.split("\0")[:-1]
