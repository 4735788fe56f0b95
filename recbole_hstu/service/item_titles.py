"""Titles of items and the unit of times, from the atomic files where they are found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hstu.data.files.atomic_file import read_header
from recbole_hstu.data.files.item_text import ItemText, read_item_texts
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.time_unit import ticks_a_second

logger = logging.getLogger(__name__)


class ItemTitles:
    """Titles by item id, and a search in them.

    Args:
        tokens: in the order of the ids, entry 0 is the padding.
        titles: by token; items without one go by their token.
    """

    def __init__(self, tokens: Sequence[str], titles: Mapping[str, str]):
        self._tokens = tokens
        self._titles = [titles.get(token) or None for token in tokens]
        self._searched = [
            f"{token} {title or ''}".casefold()
            for token, title in zip(tokens, self._titles, strict=True)
        ]

    def __getitem__(self, id: int) -> str | None:
        return self._titles[id]

    def search(self, query: str, limit: int) -> list[int]:
        """Ids of up to `limit` items whose token or title holds every word of the query."""
        words = query.casefold().split()
        found: list[int] = []
        for id in range(1, len(self._tokens)):
            text = self._searched[id]
            if all(word in text for word in words):
                found.append(id)
                if len(found) == limit:
                    break
        return found


def read_titles(config: Any) -> dict[str, str]:
    """Item token to title, from the first column that the data set's `item_text` names; empty
    where there is no such file or column, and, with a warning, where it is no good `.item` file."""
    path = _atomic(config, ".item")
    fields = (config["item_text"] or {}).get("fields", [])
    if not path.is_file() or not fields:
        return {}
    form = {
        "separator": config["field_separator"] or "\t",
        "encoding": config["encoding"] or "utf-8",
    }
    item_field, item_text = config["ITEM_ID_FIELD"], ItemText((fields[0],), style="pipes")
    try:
        named = [column.partition(":")[0] for column in read_header(path, **form)]
        if not {fields[0], item_field} <= set(named):
            return {}
        return read_item_texts(path, item_text, item_field=item_field, **form)
    except InputError as error:  # many models never read this file
        logger.warning("%s; the search goes by the items' tokens alone", error)
        return {}


def time_unit(config: Any) -> str | None:
    """`ms` where the data set's first time is one of milliseconds, `s` where it is another, None
    where that cannot be read or is of a finer unit."""
    path = _atomic(config, ".inter")
    try:
        with path.open(encoding=config["encoding"] or "utf-8") as file:
            head, row = (
                file.readline().rstrip("\r\n").split(config["field_separator"] or "\t")
                for _ in range(2)
            )
        named = [column.partition(":")[0] for column in head]
        ticks = ticks_a_second(float(row[named.index(config["TIME_FIELD"])]))
    except (OSError, ValueError, IndexError):
        logger.warning("%s cannot be read: the unit of the model's times is not known", path)
        return None
    return "ms" if ticks == 1000 else "s"


def _atomic(config: Any, suffix: str) -> Path:
    return Path(config["data_path"]) / f"{config['dataset']}{suffix}"
