"""The `queries` file: for every user the texts that a language model wrote for the next item.

A JSON list, or JSON Lines, of objects with the keys that GLoSS publishes (https://arxiv.org/abs/
2506.01910): `reviewer_id` (or `user_id`) and `generated_sequences`, a list of texts. Other keys are
not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hstu.support.errors import InputError, in_a_line, writing
from recbole_hstu.support.files.whole_file import whole_file
from recbole_hstu.support.json_text import each_once

USER_KEYS, TEXTS_KEY = ("reviewer_id", "user_id"), "generated_sequences"
# What a prompt of GLoSS puts before every item, and a model that learned from it writes, too.
ITEM_MARK = "Title:"


def read_queries(path: str | Path) -> dict[str, list[str]]:
    """User token -> texts, best first, without `ITEM_MARK`.

    Raises:
        InputError: no such file, not of the form above, a user twice or without a text.
    """
    path = Path(path)
    queries: dict[str, list[str]] = {}
    for place, entry in enumerate(_entries(path), 1):
        user, texts = _read_entry(entry, f"{path}: entry {place:,}")
        if user in queries:
            raise InputError(f"{path}: entry {place:,}: user {user} stands in it twice")
        queries[user] = texts
    if not queries:
        raise InputError(f"{path}: holds no user")
    return queries


def write_queries(path: str | Path, queries: Mapping[str, Sequence[str]]) -> None:
    """JSON Lines, whole or not at all.

    Raises:
        CannotWrite: the disk is full, or the folder is locked.
    """
    lines = (
        json.dumps({"user_id": user, TEXTS_KEY: list(texts)}, ensure_ascii=False) + "\n"
        for user, texts in queries.items()
    )
    with writing(f"queries: {path}"), whole_file(path) as file:
        file.write("".join(lines).encode())


def _entries(path: Path) -> Iterable[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            return json.loads(text, object_pairs_hook=each_once)
        lines = [line for line in text.split("\n") if line.strip()]
        return [json.loads(line, object_pairs_hook=each_once) for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"queries: {path}: cannot be read: {in_a_line(error)}") from error


def _read_entry(entry: Any, place: str) -> tuple[str, list[str]]:
    keys = entry.keys() if isinstance(entry, dict) else ()
    user = next((entry[key] for key in USER_KEYS if key in keys), None)
    texts = entry[TEXTS_KEY] if TEXTS_KEY in keys else None
    good = isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
    if user is None or not good or texts is None:
        raise InputError(
            f"{place}: must be an object with {' or '.join(USER_KEYS)} and a list of texts, "
            f"{TEXTS_KEY}"
        )
    return str(user), [text.strip().removeprefix(ITEM_MARK).strip() for text in texts]
