"""Work that one process at a time may do, on one machine or on several with a shared folder."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(lock_file: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file; where another process has it, `waiting` is logged and this one waits.

    The lock ends with the process that holds it, however that ends; the file stays.

    Raises:
        OSError: the file cannot be made, or its file system knows no locks.
    """
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(waiting)
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(lock_file)) from error
    try:
        yield
    finally:
        lock.release()
