"""Lists for many users, from a file into a file, part by part."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from recbole_hstu.data.files.token_codes import blocks
from recbole_hstu.serving.allowed_items import AllowedItems
from recbole_hstu.serving.events_of_users import EventsOfUsers
from recbole_hstu.serving.files.request_files import NAMES_AT_ONCE, read_history_file, read_names
from recbole_hstu.serving.files.table_files import check_kind, table_file
from recbole_hstu.serving.histories import Histories, of_users_alone
from recbole_hstu.serving.long_table import long_table
from recbole_hstu.serving.new_events import counts_events
from recbole_hstu.serving.new_items import check_new_items, new_items
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.serving.times import date_as_number, whole_numbers
from recbole_hstu.support.commands.command_options import known_options, true_or_false
from recbole_hstu.support.errors import InputError, first_ten

_DEFAULTS: dict[str, Any] = {
    "all_users": False,
    "k": 10,
    "exclude_seen": True,
    "on_unknown": "warn",
    "device": "cpu",
    "show_progress": True,
}
_OPTIONS = (
    *("users", "histories", "at", "out", "dataset", "candidates", "exclude", *_DEFAULTS),
    *("text_features_file", "new_items", "stand_in", "new_events"),
)
_SWITCHES = ("all_users", "exclude_seen", "show_progress")
_TEXTS = {*_OPTIONS} - {*_SWITCHES, "k", "at"}
_COLUMNS = {"user": "string", "item": "string", "score": "float32", "rank": "int64"}
# The users of a part with the times of their requests.
Part = tuple[Histories, Any]

logger = logging.getLogger(__name__)


def recommend_file(checkpoint: str | Path, options: Mapping[str, Any]) -> str:
    """Write a table user, item, score, rank for all users of a file; for the options see
    `recbole-hstu recommend --help`.

    Returns:
        One line about what was written and what was left out.

    Raises:
        InputError: bad input; then `out` is as it was.
    """
    options = _checked(options)
    out = Path(options["out"])
    rec = _loaded(checkpoint, options)
    k = options["k"]
    allowed = _allowed(rec, options)
    allowed.check_k(k)
    count = _Count()
    total, parts = _parts(rec, options)
    hidden = None if options["show_progress"] else True  # None: but on a terminal
    with table_file(out) as write, tqdm(total=total, unit=" users", disable=hidden) as bar:
        for part in parts:
            for users, table in _tables(rec, part, options, allowed):
                if len(table):
                    write(table)
                count.add(users, len(table), k)
                bar.update(users)
            count.left_out(part[0])
        if not count.rows:
            write(pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _COLUMNS.items()}))
    return f"{out}: {count}\n"


@contextmanager
def _about(file: str | None) -> Iterator[None]:
    """Errors inside are of what stands in this file, and begin with its name."""
    try:
        yield
    except InputError as error:
        if file is None or str(error).startswith(f"{file}: "):
            raise
        raise InputError(f"{file}: {error}") from error


@contextmanager
def _about_names(file: str, names: list[str]) -> Iterator[None]:
    """Errors inside are of names in this file; a space too many is not to be seen in them."""
    try:
        with _about(file):
            yield
    except InputError as error:
        spaced = [name for name in names if name != name.strip()]
        if not spaced:
            raise
        what = f"names with spaces at an end in this file: {len(spaced):,}, such as {spaced[0]!r}"
        raise InputError(f"{error}; spaces belong to a name; {what}") from error


def _tables(
    rec: Recommender, part: Part, options: Mapping[str, Any], allowed: AllowedItems
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Batch by batch: how many users there are in it, and their lists."""
    given, at = part
    with _about(options.get("histories")):
        times = rec.request_times(at, given, given.users)
    seen = options["exclude_seen"]
    lists = rec.lists(given, times, options["k"], exclude_seen=seen, allowed=allowed)
    with _about(options.get("histories", options.get("users"))):
        for users, best, ids in lists:
            table = long_table(rec.items, given.users[users], best, ids)
            yield len(best), table.assign(user=table["user"].astype(str))


def _loaded(checkpoint: str | Path, options: Mapping[str, Any]) -> Recommender:
    """The model, with the new items and events."""
    rec = Recommender.load(
        checkpoint,
        dataset=options.get("dataset"),
        text_features_file=options.get("text_features_file"),
        device=options["device"],
    )
    if "new_items" in options:
        rec.add_items(*new_items(options))
    if "new_events" in options:
        _add_events(rec, options)
    return rec


def _add_events(rec: Recommender, options: Mapping[str, Any]) -> None:
    """The new events, if the model counts them or reads the histories that they belong to."""
    path, model = options["new_events"], rec.saved.config["model"]
    if not counts_events(rec.saved) and "histories" in options:
        raise InputError(
            f"--new_events={path}: {model} counts no events, and --histories has all of a user; "
            "add them to that file, or ask for users of the data set with --users or --all_users"
        )
    if not counts_events(rec.saved) and _asks_by_name(rec, options):
        raise InputError(
            f"--new_events={path}: {model} knows users by their names, and --exclude_seen=False "
            "leaves nothing out of their lists, so that nothing reads these events; leave them out"
        )
    events = pd.concat(read_history_file(path), ignore_index=True)
    with _about(path):
        rec.add_events(events, options["on_unknown"])


def _asks_by_name(rec: Recommender, options: Mapping[str, Any]) -> bool:
    """Whether lists of the data set's users need none of their events."""
    return not rec.saved.is_sequential and not options["exclude_seen"]


def _allowed(rec: Recommender, options: Mapping[str, Any]) -> AllowedItems:
    """`Recommender.allowed` of the files."""
    given: dict[str, Any] = {}
    for name in ("candidates", "exclude"):
        if name in options:
            given[name] = read_names(options[name])
            with _about_names(options[name], given[name]):
                rec.ids(given[name])  # the error of an item that nobody knows
    return rec.allowed(**given)


class _Count:
    """What was written and what was left out."""

    def __init__(self) -> None:
        self.users = self.rows = self.short = self.unknown = self.without_events = 0

    def add(self, users: int, rows: int, k: int) -> None:
        self.users, self.rows = self.users + users, self.rows + rows
        self.short += users * k - rows

    def left_out(self, given: Histories) -> None:
        self.unknown += given.unknown
        self.without_events += given.without_events

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows for {self.users:,} users; {self.short:,} rows fewer than k each; "
            f"left out: {self.unknown:,} events of unknown items, {self.without_events:,} users "
            "who have no other event"
        )


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    options = _DEFAULTS | known_options(given, _OPTIONS, _TEXTS)
    sources = [key for key in ("users", "histories", "all_users") if options.get(key)]
    if len(sources) != 1:
        raise InputError("name one of --users=FILE, --histories=FILE and --all_users")
    for key in _SWITCHES:
        true_or_false(options[key], f"--{key}")
    if "at" in options:
        if not isinstance(options["at"], int | float):
            at = options["at"]
            raise InputError(f"--at: {at!r} is no time{date_as_number(at)}")
        options["at"] = int(whole_numbers([options["at"]], "--at: ")[0])
    out = options.get("out")
    if out is None:
        raise InputError("--out is missing; name a .csv, .jsonl or .parquet file")
    check_kind(out)
    check_new_items(options)
    files = {"users", "histories", "candidates", "exclude", "new_items", "new_events"}
    if Path(out).resolve() in {Path(str(options[key])).resolve() for key in files & options.keys()}:
        raise InputError(f"--out={out}: is the file to read from, too; name another")
    return options


def _parts(rec: Recommender, options: Mapping[str, Any]) -> tuple[int | None, Iterator[Part]]:
    """How many users there are, where that is known, and their histories part by part."""
    unknown = options["on_unknown"]
    unknown = "ignore" if unknown == "warn" else unknown  # counted over all parts
    at = options.get("at")
    if options.get("histories"):
        return None, _of_file(rec, options["histories"], at, unknown)
    names = read_names(options["users"]) if options.get("users") else None
    if names and len(set(names)) < len(names):
        twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
        raise InputError(f"{options['users']}: users twice: {first_ten(twice)}")
    events = None if _asks_by_name(rec, options) else rec.events_of_users(options.get("dataset"))
    if events is not None and names:
        with _about_names(options["users"], names):
            events.places(names)  # the error of a user who has no event
    names = names or (rec.saved.user_tokens[1:] if events is None else _everybody(rec, events))

    def read(some: list[str]) -> Histories:
        return of_users_alone(some) if events is None else rec.read(events.of(some), unknown)

    parts = blocks(len(names), NAMES_AT_ONCE)
    return len(names), ((read(names[part]), at) for part in parts)


def _everybody(rec: Recommender, events: EventsOfUsers) -> list[str]:
    """The users of the data set and of the new events, those of the training alone if the model
    knows its users by name."""
    if len(rec.saved.user_tokens) < 2:
        return list(events.users)
    known = events.users.intersection(rec.saved.user_tokens, sort=False)
    if len(known) < len(events.users):
        logger.warning(
            f"{len(events.users) - len(known):,} users get no list: {rec.saved.config['model']} "
            "knows its users by name, and its training had none of them"
        )
    return list(known)


def _of_file(rec: Recommender, path: str, at: Any, unknown: str) -> Iterator[Part]:
    for table in read_history_file(path):
        with _about(path):
            given = rec.read(table, unknown)
        own = _own_times(path, table) if "at" in table else {}
        if at is not None:
            yield given, dict.fromkeys(given.users, at) | own
            continue
        lacking = [user for user in given.users if user not in own]
        if lacking and rec.needs_request_time:
            raise InputError(
                f"{path}: has no time of the request (at) for the users {first_ten(lacking)}; "
                "--at=TIME gives one to all who have none"
            )
        yield given, None if lacking else own


def _own_times(path: str, table: pd.DataFrame) -> dict[str, int]:
    """The time of the request of every user who has one."""
    found = table[["user", "at"]].dropna().drop_duplicates()
    for user in found["user"][found["user"].duplicated()][:1]:
        raise InputError(f"{path}: the rows of user {user} have different at; give one")
    return dict(zip(found["user"], found["at"].tolist(), strict=True))
