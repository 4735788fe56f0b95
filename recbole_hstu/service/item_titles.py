"""Titles of items, from the data set's `.item` file where it is found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hstu.data.files.atomic_file import column_names, form_of
from recbole_hstu.data.files.item_text import ItemText, read_item_texts
from recbole_hstu.support.errors import InputError

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
    where there is no such column, and, with a warning, where there is no good `.item` file."""
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    fields = (config["item_text"] or {}).get("fields", [])
    if not fields:
        return {}
    if not path.is_file():
        logger.warning("%s: no such file; the search goes by the items' tokens alone", path)
        return {}
    form = form_of(config)
    item_field, item_text = config["ITEM_ID_FIELD"], ItemText((fields[0],), style="pipes")
    try:
        if not {fields[0], item_field} <= set(column_names(path, **form)):
            return {}
        return read_item_texts(path, item_text, item_field=item_field, **form)
    except InputError as error:  # many models never read this file
        logger.warning("%s; the search goes by the items' tokens alone", error)
        return {}
