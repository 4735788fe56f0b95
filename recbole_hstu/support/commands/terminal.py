"""What the terminal can show: its signs and its width."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from recbole_hstu.support.errors import in_a_line

# Of the tables: better and worse than the baseline, mean and deviation.
_PLAINER = {"†": "+", "‡": "-", "±": "~"}


def terminal_width() -> int:
    """Characters a line; 100 where the output is no terminal and COLUMNS does not say."""
    return shutil.get_terminal_size((100, 24)).columns


class _OutputFailed(Exception):
    """Standard output could not be written; the cause is an `OSError`."""


def with_output(command: Callable[[], int]) -> int:
    """The exit status of a command: 0 where the reader of its output goes early, as `head` does,
    and 1 where the output cannot be written."""
    closed = sys.stdout is None  # by the shell: >&-
    output = Path(os.devnull).open("w") if closed else sys.stdout  # noqa: SIM115
    write = output.write
    sys.stdout, output.write = output, partial(_told_apart, write)  # type: ignore[method-assign]
    try:
        status = command()
        _told_apart(output.flush)
        return status
    except _OutputFailed as error:
        _drop(output)
        if isinstance(error.__cause__, BrokenPipeError):
            return 0
        why = in_a_line(error.__cause__)
        sys.stderr.write(f"recbole-hstu: error: the output cannot be written ({why})\n")
        return 1
    finally:
        output.write = write  # type: ignore[method-assign]


def _told_apart(act: Callable[..., Any], *given: str) -> Any:
    """Other files and pipes of a command fail with the same errors as its output."""
    try:
        return act(*given)
    except OSError as error:
        raise _OutputFailed from error


def _drop(output: Any) -> None:
    """What is left is not written: Python tries to once more when it ends."""
    with suppress(OSError), Path(os.devnull).open("w") as nowhere:  # some outputs are no files
        os.dup2(nowhere.fileno(), output.fileno())


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
