"""Every table of this package that is text goes through here: Markdown, CSV, terminal.

`alignment` has a letter for each column, l (left) or r (right); all columns are left without it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from texttable import Texttable

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")
_RULES = {"l": "---", "r": "---:"}


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], alignment: str = ""
) -> str:
    """A pipe table that ends in a line break; the cells are Markdown (see `escape_markdown`)."""
    rules = [_RULES[letter] for letter in alignment or "l" * len(headings)]
    lines = [" | ".join(cells) for cells in (headings, rules, *rows)]
    return "".join(f"| {line} |\n" for line in lines)


def csv_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated values; None is an empty cell, lines end in a line feed.

    Text must hold no carriage return, which Python's csv leaves unquoted.
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([headings, *rows])
    return stream.getvalue()


def terminal_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], alignment: str = ""
) -> str:
    """Columns of plain text under a rule, never folded; a cell may have several lines."""
    table = Texttable(max_width=0)
    table.set_deco(Texttable.HEADER)
    table.set_cols_dtype(["t"] * len(headings))
    table.set_cols_align(list(alignment or "l" * len(headings)))
    table.set_header_align(list(alignment or "l" * len(headings)))
    table.add_rows([headings, *rows])
    return f"{table.draw()}\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, inside a table's cell."""
    return _MARKDOWN.sub(r"\\\1", text)
