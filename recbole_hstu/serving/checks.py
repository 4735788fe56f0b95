"""What callers give from Python: lists of tokens, tables with columns of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from recbole_hstu.support.errors import InputError


def token_list(given: Any, what: str) -> list[Any]:
    """Tokens in a list; `what` they are begins an error's line.

    Raises:
        InputError: a single token, whose letters would be taken for tokens, or no collection.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"{what}: {given!r} is not a list of tokens; write it in brackets")
    return list(given)


def is_text(token: str) -> bool:
    """Whether a token can be written: JSON can hold half a character, files cannot."""
    try:
        token.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_columns_there(table: pd.DataFrame, where: str, expected: str) -> None:
    """Whether a table has users and items; `where` begins an error's line.

    Raises:
        InputError: a column is not there; the line says what is `expected`.
    """
    lacking = [name for name in ("user", "item") if name not in table]
    if lacking:
        raise InputError(f"{where}: no column {', '.join(lacking)}; expected {expected}")


def check_token_columns(table: pd.DataFrame, where: str) -> None:
    """Whether the columns user and item of a table hold tokens; `where` begins an error's line.

    Raises:
        InputError: a column stands there twice, or holds decimal numbers. pandas makes them of
            whole ones where a row lacks its own, and 196.0 is not the token of user 196.
    """
    for name in ("user", "item"):
        column = table.get(name)
        if isinstance(column, pd.DataFrame):
            raise InputError(f"{where}: the column {name} stands there twice; give it once")
        if column is not None and column.dtype.kind == "f" and len(column):
            raise InputError(
                f"{where}: the column {name} holds decimal numbers ({column.iloc[0]}); make them "
                "whole numbers or texts"
            )
