"""One process at a time at a place on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from dataset_converters.errors import ConversionError


@contextmanager
def place_lock(place: Path) -> Iterator[None]:
    """Hold a file or folder, there or not, for this process; the lock file beside it stays.

    Raises:
        ConversionError: the block or the lock cannot write there, or the disk knows no locks.
    """
    file = place.with_name(f".{place.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(file).acquire()
        except NotImplementedError as error:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(file)) from error
        with lock:
            yield
    except OSError as error:
        where = error.filename or place
        raise ConversionError(f"{where}: cannot be written ({error.strerror or error})") from error
