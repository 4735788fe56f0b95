"""Whether folders can be written, before hours are spent on what shall lie in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.settings import Settings

# What a log and the curves of a short run take, in bytes.
_SOME = 1 << 18


def check_file(path: Path, *, option: str = "--out") -> None:
    """Whether a file can be written.

    Raises:
        InputError: it is a folder, or lies in one that can be neither made nor written.
    """
    if path.is_dir():
        raise InputError(f"{option}={path}: is a folder; name a file")
    check_folders(str(path.parent), option=option)


def check_run_folders(config: Settings) -> None:
    """Whether a training can write its log and its checkpoints; errors: see `check_folders`."""
    check_folders("log", "log_tensorboard")
    check_folders(str(config["checkpoint_dir"]), option="--checkpoint_dir")


def check_folders(*names: str, option: str | None = None) -> None:
    """Whether the folders are there or can be made, and can be written.

    Args:
        option: by which another one is named, where there is one.

    Raises:
        InputError: a folder can be neither made nor written.
    """
    for name in names:
        if reason := hindrance(nearest(Path(name))):
            other = f", or choose another with {option}" if option else ""
            raise InputError(
                f"{name}: the folder cannot be written ({reason}); run from a folder "
                f"of your own{other}"
            )


@contextmanager
def writing_results(folder: Path) -> Iterator[None]:
    """A folder of results that cannot be written or locked inside the block becomes an `InputError`
    of one line."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second where a disk knows no locks
        reason = in_a_line(getattr(error, "strerror", None) or error)
        raise InputError(
            f"{folder}: the folder of results cannot be written ({reason}); choose another with "
            "--results_dir"
        ) from error


def nearest(path: Path) -> Path:
    """The path, or the nearest one above it that is there."""
    while not os.path.lexists(path):  # a link to nothing is in the way, too
        path = path.parent
    return path


def hindrance(folder: Path) -> str | None:
    """Why nothing can be made in what should be a folder, None if something can. It is tried: of
    /proc, a disk that is read only or a full one, rights alone say nothing."""
    if not folder.is_dir():
        return f"{folder} is in the way"
    try:
        with tempfile.TemporaryDirectory(prefix=".recbole_hstu.", dir=folder) as made:
            Path(made, "some").write_bytes(bytes(_SOME))
            return None
    except OSError as error:
        return f"{folder}: {in_a_line(error.strerror or error)}"
