"""What the terminal can show: its signs and its width."""

from __future__ import annotations

import codecs
import shutil
import sys

# Of the tables: better and worse than the baseline, mean and deviation.
_PLAINER = {"†": "+", "‡": "-", "±": "~"}


def terminal_width() -> int:
    """Characters a line; 100 where the output is no terminal and COLUMNS does not say."""
    return shutil.get_terminal_size((100, 24)).columns


def write_to_any_terminal() -> None:
    """From now on characters that standard output does not know are replaced by plainer ones."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors in ("strict", "surrogateescape"):
        codecs.register_error("recbole_hstu", _shown_instead)
        reconfigure(errors="recbole_hstu")


def _shown_instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAINER.get(character, "?") for character in text), error.end
