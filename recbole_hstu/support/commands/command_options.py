"""What commands check of their options before anything is read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from recbole_hstu.support.errors import InputError


def known_options(
    given: Mapping[str, Any], names: Collection[str], texts: Collection[str]
) -> dict[str, Any]:
    """The options of a command.

    Args:
        given: as the command line has them.
        names: of the options that the command knows.
        texts: those of them that name a file or the like.

    Raises:
        InputError: an unknown option, one without a value, as `--exclude=$FILE` is where the shell
            knows no FILE, or a name that is none, as in `--users`.
    """
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.0)[0]
            raise InputError(f"unknown option '{key}'; did you mean '{near}'?")
        if given[key] is None:
            raise InputError(f"--{key}: has no value; give it one, or leave it out")
        if key in texts and (not isinstance(given[key], str) or not given[key]):
            raise InputError(f"--{key}: {given[key]!r} is no name; write --{key}=NAME")
    return dict(given)


def true_or_false(value: Any, what: str) -> bool:
    """A switch; `what` begins an error's line, as in `--jobs`.

    Raises:
        InputError: another value, such as a text or 1.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{what}: {value!r} must be True or False")
    return bool(value)


def whole_number(value: Any, what: str, least: int, most: int | None = None) -> int:
    """A whole number from `least` on, and up to `most` if there is one; `what` begins an error's
    line.

    Raises:
        InputError: another number, or another value such as a text or True.
    """
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"from {least} on" if most is None else f"{least} to {most:,}"
        raise InputError(f"{what}: {value!r} must be a whole number {span}")
    return value
