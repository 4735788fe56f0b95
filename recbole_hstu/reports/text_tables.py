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

from recbole_hstu.support.commands.terminal import terminal_width

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")
_GAP = 3  # between two columns of the terminal
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
    """Columns of plain text under a rule; a cell may have several lines.

    A table that is wider than the terminal becomes several, each with the first column.
    """
    lines = [[str(cell) for cell in row] for row in (headings, *rows)]
    alignment = alignment or "l" * len(headings)
    blocks = _blocks([max(map(_width, column)) for column in zip(*lines, strict=True)])
    drawn = [
        _drawn([[row[i] for i in block] for row in lines], "".join(alignment[i] for i in block))
        for block in blocks
    ]
    return "\n".join(drawn)


def _blocks(widths: Sequence[int]) -> list[list[int]]:
    """The columns of each table: as many as the terminal has room for."""
    room = terminal_width()
    blocks, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], start=1):
        if used + _GAP + width > room and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += _GAP + width
    return blocks


def _width(cell: str) -> int:
    return max(map(len, cell.splitlines()), default=0)


def _drawn(lines: Sequence[Sequence[str]], alignment: str) -> str:
    table = Texttable(max_width=0)
    table.set_deco(Texttable.HEADER)
    table.set_cols_dtype(["t"] * len(alignment))
    table.set_cols_align(list(alignment))
    table.set_header_align(list(alignment))
    table.add_rows(lines)
    return "".join(f"{line.rstrip()}\n" for line in table.draw().splitlines())


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, inside a table's cell."""
    return _MARKDOWN.sub(r"\\\1", text)
