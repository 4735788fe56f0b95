"""One text an item, made from the columns of the `.item` atomic file.

Which columns, in which order, joined how, is a property of the data set:

    item_text:
      fields: [title, features, categories, description]
      style: sentences      # or pipes
      ascii: false          # true: other characters become spaces (Amazon 2023)
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_hstu.data.files.atomic_file import column_names, form_of, read_atomic
from recbole_hstu.support.errors import InputError, first_ten

logger = logging.getLogger(__name__)
STYLES = ("sentences", "pipes")
_TAG = re.compile(r"<(?:!--.*?--|[/!]?[A-Za-z][^<>]*)>", re.DOTALL)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class ItemText:
    """How the text of an item is put together.

    Attributes:
        fields: columns of the `.item` file, in order.
        style: `sentences` ends every field with "." and joins them by a space (the Amazon text of
            BLaIR); `pipes` joins them by " | " (Steam). A missing field is left out.
        ascii: turn every character outside ASCII into a space.
    """

    fields: tuple[str, ...]
    style: str = "sentences"
    ascii: bool = False

    @classmethod
    def from_property(cls, value: Any, columns: Sequence[str] = ()) -> ItemText:
        """Check the data set's `item_text` property.

        Args:
            columns: of text that the `.item` file has, for a message.

        Raises:
            InputError: it is missing or not of the form above.
        """
        form = "item_text: {fields: [title, categories], style: sentences or pipes, ascii: false}"
        if value is None:
            if columns:
                form = f'--item_text="{{fields: [{", ".join(columns)}], style: sentences}}"'
            raise InputError(f"nothing says what the text of an item is; add {form}")
        known = {"fields", "style", "ascii"}
        if not isinstance(value, Mapping) or not set(value) <= known:
            raise InputError(f"item_text: {value!r} is not of the form {form}")
        fields, style = value.get("fields"), value.get("style", "sentences")
        if (
            not isinstance(fields, list | tuple)
            or not fields
            or not all(isinstance(field, str) for field in fields)
        ):
            raise InputError(f"item_text: fields {fields!r} must be a list of column names")
        if style not in STYLES:
            raise InputError(f"item_text: style {style!r} is not one of {', '.join(STYLES)}")
        if not isinstance(value.get("ascii", False), bool):
            raise InputError(f"item_text: ascii {value['ascii']!r} must be true or false")
        return cls(tuple(fields), style, value.get("ascii", False))

    def join(self, values: list[str]) -> str:
        """One text from the values of `fields`, "" where all of them are empty."""
        parts = [part for part in (clean(value, self.ascii) for value in values) if part]
        if self.style == "pipes":
            return " | ".join(parts)
        return " ".join(part if part.endswith(".") else f"{part}." for part in parts)


def clean(text: str, ascii_only: bool = False) -> str:
    """Plain text: no HTML entity, no tag, single spaces; cleaning it again changes nothing.

    Args:
        text: may hold HTML, even HTML that was escaped more than once.
        ascii_only: turn every character outside ASCII into a space.
    """
    if "&" in text or "<" in text:
        before = None
        while before != text:  # "&amp;lt;b&amp;gt;" hides a tag two levels deep
            before, text = text, _TAG.sub("", html.unescape(text))
    if ascii_only:
        text = _NOT_ASCII.sub(" ", text)
    return " ".join(text.split())


def read_item_texts(
    path: str | Path,
    item_text: ItemText,
    *,
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str = "utf-8",
) -> dict[str, str]:
    """Item token to text, in the order of the `.item` file; "" for an item without any.

    Raises:
        InputError: no such file, a column that is not there, an item twice or without a token.
    """
    frame = read_items(
        path, item_text.fields, item_field=item_field, separator=separator, encoding=encoding
    )
    values = [_as_text(frame[field]) for field in item_text.fields]
    return {
        token: item_text.join(list(row)) for token, *row in zip(frame.index, *values, strict=True)
    }


def read_items(
    path: str | Path,
    fields: Collection[str],
    *,
    item_field: str,
    separator: str,
    encoding: str,
) -> pd.DataFrame:
    """Columns of an `.item` file by item token, in the order of the file.

    Raises:
        InputError: no such file, a column that is not there, an item twice or without a token.
    """
    path = Path(path)
    columns = column_names(path, separator=separator, encoding=encoding)
    absent = [f for f in (item_field, *fields) if f not in columns]
    if absent:
        where = "ITEM_ID_FIELD" if item_field in absent else "the data set's item_text: fields"
        raise InputError(
            f"{path}: no column {', '.join(absent)}; the file has {', '.join(columns)}; "
            f"name these in {where}"
        )
    frame = read_atomic(path, fields={item_field, *fields}, separator=separator, encoding=encoding)
    tokens = frame[item_field]
    if tokens.isna().any():
        raise InputError(f"{path}: {int(tokens.isna().sum())} rows have no {item_field}")
    if not tokens.is_unique:
        raise InputError(f"{path}: items twice: {', '.join(tokens[tokens.duplicated()][:10])}")
    return frame.set_index(item_field, drop=False)


def texts_of_items(config: Any, dataset: Any) -> list[str]:
    """The texts of a data set's items in the order of RecBole's ids, "" for the padding; how many
    items have none is logged.

    Raises:
        InputError: nothing says what the text of an item is, or see `read_item_texts`.
    """
    known = read_item_texts(
        Path(config["data_path"]) / f"{config['dataset']}.item",
        ItemText.from_property(config["item_text"]),
        item_field=config["ITEM_ID_FIELD"],
        **form_of(config),
    )
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    empty = [token for token in tokens if not known.get(token)]
    if empty:
        what = f"{len(empty):,} of {len(tokens):,} items have no text"
        logger.warning("%s: %s", what, first_ten(empty))
    return ["", *(known.get(token, "") for token in tokens)]


def _as_text(column: pd.Series) -> list[str]:
    if column.dtype.kind == "f":  # a float column: 1995.0 reads 1995
        return ["" if value != value else f"{value:.15g}" for value in column]
    return column.fillna("").tolist()
