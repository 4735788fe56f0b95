"""JSON that people and clients write."""

from __future__ import annotations

import json
from typing import Any

from recbole_hstu.support.errors import InputError


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, for `object_pairs_hook` of `json.loads`: of a key's two values nobody knows which
    counts.

    Raises:
        InputError: a key stands there twice.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key {key!a} stands there twice; give it once")
        found[key] = value
    return found


def of_line(line: str | bytes, where: str, expected: str) -> Any:
    """What stands in a line of JSON; `where` begins an error's, `expected` ends it.

    Raises:
        InputError: it is no JSON, or a key stands there twice.
    """
    try:
        return json.loads(line, object_pairs_hook=each_once)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON; expected {expected}") from error
