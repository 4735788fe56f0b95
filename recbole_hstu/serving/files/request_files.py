"""Files of histories and of users, read part by part; every part holds whole users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from recbole_hstu.serving.checks import check_columns_there, check_token_columns, is_text
from recbole_hstu.serving.times import date_as_number, whole_numbers
from recbole_hstu.support.errors import InputError, in_a_line, reading
from recbole_hstu.support.json_text import of_line

ROWS_AT_ONCE = 1 << 16
NAMES_AT_ONCE = 4096
_COLUMNS = ("user", "item", "time", "at")
_KEYS = {"user", "history", "at"}
_BLOCK = 1 << 20  # bytes
_LINE = '{"user": "anna", "history": [["50", 881250949], ["172", 881250999]], "at": 881251000}'

Tables = Iterator[pd.DataFrame]


def read_history_file(path: str | Path) -> Tables:
    """Long tables user, item and, where the file has them, time and at (of the request).

    CSV and Parquet hold these columns, all rows of a user one after the other; JSON lines a user
    each: `{"user": "anna", "history": [["50", 881250949], ...], "at": 881251000}`. Where the file
    gives no at for a row, it is NA.

    Raises:
        InputError: no such file, another form, a value that is none, a user in two places.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Tables]] = {
        ".csv": _csv,
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    if path.suffix not in readers:
        raise InputError(f"{path}: histories are read from {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return _whole_users(path, readers[path.suffix](path))


def read_names(path: str | Path) -> list[str]:
    """The tokens in a text file, one a line, as they stand: spaces around one belong to it.

    Raises:
        InputError: no such file, not UTF-8 text, no token.
    """
    with reading(path):
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # tokens may hold U+2028
    names = [line for line in (line.removesuffix("\r") for line in lines) if line]
    if not names:
        raise InputError(f"{path}: holds no token; expected one a line")
    return names


def _whole_users(path: Path, parts: Tables) -> Tables:
    """The parts, cut between users."""
    before: set[int] = set()
    held: pd.DataFrame | None = None
    rows, last = 0, None
    for part in parts:
        if part.empty:
            continue
        part = _checked(path, part, rows)
        rows += len(part)
        _refuse_returning(path, part["user"], last, before)
        last = part["user"].iloc[-1]
        part = part if held is None else pd.concat([held, part], ignore_index=True)
        is_last = part["user"] == last
        whole, held = part[~is_last], part[is_last]
        if len(whole):
            yield whole
    if held is None:
        raise InputError(f"{path}: holds no history")
    yield held


def _refuse_returning(path: Path, users: pd.Series, last: str | None, before: set[int]) -> None:
    """Whether one of the users of a part, whose row before was of `last`, had rows before."""
    for user in users[users.ne(users.shift(fill_value=last))]:
        mark = hash(user)
        if mark in before:
            raise InputError(
                f"{path}: the rows of user {user} are in two places; sort the file by user and time"
            )
        before.add(mark)


def _checked(path: Path, part: pd.DataFrame, rows_before: int) -> pd.DataFrame:
    expected = "user, item and, for models that read times, time and at"
    check_columns_there(part, str(path), expected)
    for name in part.columns:
        if name not in _COLUMNS and str(name).strip().lower() in _COLUMNS:
            raise InputError(
                f"{path}: unknown column {name!a}; in small letters, without spaces, it is read"
            )
    part = part[[name for name in _COLUMNS if name in part]].reset_index(drop=True)
    for name in ("user", "item"):
        missing = np.flatnonzero(part[name].isna() | (part[name].astype(str) == ""))
        if len(missing):
            raise InputError(f"{path}: row {rows_before + missing[0] + 1}: no {name}")
    check_token_columns(part, str(path))
    part = part.astype({"user": str, "item": str})
    if "time" in part:
        part["time"] = _times(path, part["time"], rows_before)
    if "at" in part:
        given = part["at"][part["at"].notna() & (part["at"] != "")]
        times = pd.Series(_times(path, given, rows_before), given.index, dtype="Int64")
        part["at"] = times.reindex(part.index)
    return part


def _times(path: Path, column: pd.Series, rows_before: int) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce") if column.dtype == object else column
    for row in numbers.index[numbers.isna()][:1]:
        raise InputError(
            f"{path}: row {rows_before + row + 1}: {column.name} {column[row]!r} is no number"
            f"{date_as_number(column[row])}"
        )
    if column.dtype == object and numbers.dtype.kind == "f":
        return whole_numbers([_number(value) for value in column], f"{path}: {column.name} ")
    return whole_numbers(numbers.to_numpy(), f"{path}: {column.name} ")


def _number(value: Any) -> int | float:
    """A text or a number as it stands: a float would round a long whole number."""
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return float(value)


def _refuse_columns_twice(path: Path, names: Sequence[Any]) -> None:
    """pandas gives the second one another name, or both in place of one."""
    for name in _COLUMNS:
        if list(names).count(name) > 1:
            raise InputError(f"{path}: has the column {name} twice; leave one out")


def _refuse_nul(path: Path) -> None:
    """pandas would take what stands before it for the whole field."""
    line = 1
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            before, nul, _ = block.partition(b"\0")
            line += before.count(b"\n")
            if nul:
                raise InputError(
                    f"{path}: line {line}: holds a NUL character, which no CSV file in UTF-8 has; "
                    "write the file anew"
                )


def _csv(path: Path) -> Tables:
    read: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    try:
        with reading(path):
            _refuse_nul(path)
            _refuse_columns_twice(path, pd.read_csv(path, header=None, nrows=1, **read).loc[0])
            for part in pd.read_csv(path, chunksize=ROWS_AT_ONCE, **read):
                if not isinstance(part.index, pd.RangeIndex):  # pandas takes surplus columns so
                    raise InputError(f"{path}: has rows with more columns than its header")
                yield part
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: is no CSV file: {in_a_line(error)}") from error


def _parquet(path: Path) -> Tables:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _refuse_columns_twice(path, file.schema_arrow.names)
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield batch.to_pandas(integer_object_nulls=True)  # floats would round times
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: is no Parquet file: {in_a_line(error)}") from error


def _json_lines(path: Path) -> Tables:
    users: list[tuple[Any, list[Any], Any]] = []
    before: set[int] = set()
    rows = 0
    with reading(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            users.append(_user_of(path, number, line))
            mark = hash(str(users[-1][0]))
            if mark in before:
                raise InputError(
                    f"{path}: line {number}: user {users[-1][0]} has a line already; give one"
                )
            before.add(mark)
            rows += len(users[-1][1])
            if rows >= ROWS_AT_ONCE:
                yield _as_table(users)
                users, rows = [], 0
    if users:
        yield _as_table(users)


def _user_of(path: Path, number: int, line: bytes) -> tuple[Any, list[Any], Any]:
    where = f"{path}: line {number}"
    found = _parsed(where, line)
    user, history = found["user"], found["history"]
    if isinstance(user, bool) or not isinstance(user, str | int):
        raise InputError(f"{where}: user {user!r} is no token")
    if not isinstance(history, list) or not history:
        raise InputError(f"{where}: the history of user {user} is empty; expected {_LINE}")
    events = [event if isinstance(event, list) else [event] for event in history]
    sizes = {len(event) for event in events}
    if sizes not in ({1}, {2}) or any(type(event[0]) not in (str, int) for event in events):
        raise InputError(f"{where}: the history is no list of [item, time]; expected {_LINE}")
    for token in (user, *(event[0] for event in events)):
        if isinstance(token, str) and not is_text(token):
            raise InputError(f"{where}: the token {token!a} holds half a character (a surrogate)")
    at = found.get("at")
    for time in (at, *(event[1] for event in events if len(event) == 2)):
        if isinstance(time, bool | list | dict) or time != time:
            raise InputError(f"{where}: {time!r} is no time; expected {_LINE}")
    return user, events, at


def _parsed(where: str, line: bytes) -> dict[str, Any]:
    """The keys of a line; `where` is the beginning of an error's."""
    found = of_line(line, where, _LINE)
    if not isinstance(found, dict) or not {"user", "history"} <= set(found):
        raise InputError(f"{where}: lacks user or history; expected {_LINE}")
    for key in sorted(found.keys() - _KEYS):
        if key.strip().lower() in _KEYS:
            raise InputError(f"{where}: unknown key {key!a}; expected {_LINE}")
    return found


def _as_table(users: list[tuple[Any, list[Any], Any]]) -> pd.DataFrame:
    counts = [len(events) for _, events, _ in users]
    flat = [event for _, events, _ in users for event in events]
    columns: dict[str, Any] = {
        "user": np.repeat(np.array([str(user) for user, *_ in users], dtype=object), counts),
        "item": [event[0] for event in flat],
    }
    times = [event[1] if len(event) == 2 else None for event in flat]
    if any(time is not None for time in times):
        columns["time"] = pd.Series(times, dtype=object)
    if any(at is not None for *_, at in users):
        columns["at"] = np.repeat(np.array([at for *_, at in users], dtype=object), counts)
    return pd.DataFrame(columns)
