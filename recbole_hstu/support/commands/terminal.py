"""What the terminal can show: its signs and its width."""

from __future__ import annotations

import codecs
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from recbole_hstu.support.errors import in_a_line

# Of the tables: better and worse than the baseline, mean and deviation.
_PLAINER = {"†": "+", "‡": "-", "±": "~"}


def terminal_width() -> int:
    """Characters a line; 100 where the output is no terminal and COLUMNS does not say."""
    return shutil.get_terminal_size((100, 24)).columns


def with_output(command: Callable[[], int]) -> int:
    """The exit status of a command: its own where the reader of its output goes early, as `head`
    does, and 1 where the output cannot be written."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  # closed: >&-
    status, ended = 0, False
    try:
        status, ended = command(), True
        sys.stdout.flush()
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        full = error.errno == errno.ENOSPC and error.filename is None  # written without a buffer
        if not (ended or gone or full):
            raise
        _drop_output()
        if not gone:
            why = in_a_line(error)
            sys.stderr.write(f"recbole-hstu: error: the output cannot be written ({why})\n")
            return 1
    return status


def _drop_output() -> None:
    """What is left is not written: Python tries to once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
