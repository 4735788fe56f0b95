"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: what is left there goes by its age alone
    fcntl = None  # type: ignore[assignment]

ABANDONED_S = 7 * 24 * 3600.0
"""What nobody has changed for so long, nobody is going to finish."""


@contextmanager
def whole_file(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file for writing that takes the name `path` only when the block ends well.

    An error inside the block leaves an earlier file of that name as it was, and nothing beside it.
    The folder is made if it is missing. What a killed process has left of the same file is
    removed: at once if it was of this machine, else after `ABANDONED_S`.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    part, stream = _new_part(path)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl:  # while it is locked: nobody takes it for what a dead process left
                part.replace(path)
        if not fcntl:  # Windows renames no open file
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """A new folder for writing that takes the name `path` only when the block ends well.

    An error inside the block leaves nothing. What a killed process has left of the same folder is
    removed after `ABANDONED_S`.

    Raises:
        FileExistsError: there is something of that name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in filter(is_abandoned, path.parent.glob(f".{glob.escape(path.name)}.*.part")):
        shutil.rmtree(left, ignore_errors=True)
    part = path.with_name(f".{path.name}.{_MACHINE}.{uuid.uuid4().hex[:12]}.part")
    part.mkdir()
    try:
        yield part
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_whole(path: Path | str, content: str | bytes) -> Path:
    """Write a file in one go, as `whole_file` does, text as UTF-8; returns its path."""
    with whole_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def is_abandoned(path: Path) -> bool:
    """Whether nobody has changed the file for `ABANDONED_S`."""
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:  # its owner was faster
        return False


def _new_part(path: Path) -> tuple[Path, IO[bytes]]:
    """A file of our own, which says by its lock that its writer lives."""
    while True:
        part = path.with_name(f".{path.name}.{_MACHINE}.{uuid.uuid4().hex[:12]}.part")
        stream = part.open("xb")
        _lock(stream, wait=True)
        if part.exists():
            return part, stream
        stream.close()  # `_remove_left` of another process saw it before it was locked


def _remove_left(path: Path) -> None:
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        ours = part.name.startswith(f".{path.name}.{_MACHINE}.")
        if is_abandoned(part):
            part.unlink(missing_ok=True)
        elif ours:
            with suppress(OSError), part.open("r+b") as stream:
                if _lock(stream, wait=False):  # its writer is dead
                    part.unlink(missing_ok=True)


def _lock(stream: IO[bytes], *, wait: bool) -> bool:
    """Hold a file until it is closed or the process ends; whether it could be had."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or this file system knows no locks
        return False
    return True


def _machine() -> str:
    """This machine since it was started: containers and hosts may bear the same name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text()[:8] if boot.is_file() else ""
    name = "".join(c if c.isalnum() else "-" for c in platform.node())[:32]
    return f"{name}-{started}" if started else name


_MACHINE = _machine()
# Of the 255 bytes of a name so many are left beside those it has while the file is written.
LONGEST_NAME = 255 - len(f"..{_MACHINE}.{12 * '0'}.part")
