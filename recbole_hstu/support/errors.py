"""What the commands report in one line: bad input, and a process that died."""

from __future__ import annotations

import errno
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole_hstu.support.secrets import masked

# Packages that are installed under another name than they are imported by.
INSTALLED_AS = {"faiss": "faiss-cpu", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# What a refusal raises, and what else comes of a value that nobody thought of.
REFUSALS: tuple[type[Exception], ...] = (ValueError, NotImplementedError)
ANY_REASON: tuple[type[Exception], ...] = (
    *REFUSALS,
    *(TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RuntimeError),
)


def in_a_line(said: object) -> str:
    """The words of another library, whose messages may have several lines."""
    return " ".join(str(said).split())


def first_ten(tokens: Any) -> str:
    """Up to ten tokens of a list, an array or an index for a message."""
    shown = ", ".join(map(str, tokens[:10]))
    return shown if len(tokens) <= 10 else f"{shown}, ... ({len(tokens) - 10:,} more)"


class InputError(ValueError):
    """Bad input: configuration, data or files.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    without a traceback and exit with status 2. Secrets in addresses are masked.
    """

    def __init__(self, message: str):
        super().__init__(masked(message))


class UnknownOption(InputError):
    """An option that the model of a configuration does not know; `key` is its name."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


class CannotWrite(InputError):
    """A file that cannot be written: the disk is full, or the folder is gone or locked.

    No fault of what was about to be written: the same work can go on later.
    """


class ProcessDied(RuntimeError):
    """Another process of the training ended before its work was done; the message says which."""


def missing_package(error: ImportError, extra: str | None = None) -> str:
    """The line for a package that is not installed, and the extra of ours that brings it, if any
    does."""
    name = str(error.name or error).partition(".")[0]
    how = f'pip install "recbole-hstu[{extra}]"' if extra else how_to_install(name)
    return f"needs the package {name}; {how}"


def is_no_way_in(error: OSError) -> bool:
    """Whether the disk is full, or a path is one that this user may not follow or that no file can
    have: even to ask what is there raises it."""
    no_room = error.errno in (errno.ENOSPC, errno.EDQUOT)  # says no name of a file
    of_path = error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
    return no_room or (of_path and bool(error.filename))


def how_to_install(module: str) -> str:
    """The command that brings a module."""
    name = module.partition(".")[0]
    return f"pip install {INSTALLED_AS.get(name, name.replace('_', '-'))}"


@contextmanager
def writing(path: object) -> Iterator[None]:
    """A file that cannot be written inside the block becomes a `CannotWrite` of one line."""
    try:
        yield
    except OSError as error:
        reason = in_a_line(error.strerror or error)
        raise CannotWrite(f"{path}: cannot be written ({reason})") from error


@contextmanager
def reading(path: object) -> Iterator[None]:
    """A file that cannot be read as text inside the block becomes an `InputError` of one line."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({in_a_line(error.strerror or error)})"
        ) from error
    except UnicodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error


@contextmanager
def handed_on(option: str) -> Iterator[None]:
    """What cannot be pickled for other processes inside the block becomes an `InputError` of one
    line; `option` is the one that asks for them."""
    try:
        yield
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"{option}: the options cannot be handed to other processes ({in_a_line(error)}); a "
            "class must stand at the top of a module"
        ) from error


@contextmanager
def packages_needed(by: str, extra: str | None = None) -> Iterator[None]:
    """A package that is missing inside the block becomes an `InputError` of one line.

    Args:
        by: who needs it, as in `--model=KGAT`.
        extra: of ours that brings it, if any does.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{by}: {missing_package(error, extra)}") from error


@contextmanager
def refused_by_recbole(
    what: str, *ours: str, errors: tuple[type[Exception], ...] = ANY_REASON
) -> Iterator[None]:
    """What RecBole refuses inside the block becomes an `InputError` of one line.

    An error that starts in our own code, or in that of the packages `ours`, passes: it is a fault,
    and its traceback says where. What a library such as torch raises is put down to its caller.

    Args:
        what: the beginning of the line: the option or the model.
    """
    try:
        with packages_needed(what):
            yield
    except InputError:
        raise
    except errors as error:
        place = _place(error, {"recbole", "recbole_hstu", *ours})
        if place is None:
            raise
        kind = "" if isinstance(error, REFUSALS) else f"{type(error).__name__}: "
        raise InputError(f"{what}: {kind}{_reason(error)}{place}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return in_a_line(error)
    if error.args:
        return in_a_line(error.args[0])
    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, NotImplementedError) and "abstract_recommender" in last.filename:
        return f"the model has no method {last.name} (docs/extending.md)"
    return "no reason is given"


def _place(error: BaseException, packages: set[str]) -> str | None:
    """Where RecBole's code was called last, None where another of the packages was.

    Empty if RecBole raised the error itself, in words: they say enough.
    """
    last, frame = None, error.__traceback__
    while frame is not None:
        name = str(frame.tb_frame.f_globals.get("__name__", ""))
        last = (name, frame) if name.partition(".")[0] in packages else last
        frame = frame.tb_next
    if last is None or last[0].partition(".")[0] != "recbole":
        return None
    in_words = isinstance(error, (*REFUSALS, AssertionError)) and last[1].tb_next is None
    return "" if in_words else f" ({last[0]}, line {last[1].tb_lineno})"
