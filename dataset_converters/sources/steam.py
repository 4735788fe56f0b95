"""Steam: the reviews and games of Kang & McAuley, one Python dict literal a line."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dataset_converters.convert import Source
from dataset_converters.gathering import Fields, LeftOutError
from dataset_converters.interactions import Row, checked_row
from dataset_converters.reading.chunks import Chunk, Record, chunk_of_records
from dataset_converters.reading.clean_text import plain_text
from dataset_converters.reading.lines import Tally, read_blocks, read_lines, text_of
from dataset_converters.reading.literals import dict_parser

if TYPE_CHECKING:
    from dataset_converters.downloads.fetcher import Fetcher

VARIANTS = ("full", "published")
TEXT_FIELDS = ("app_name", "publisher", "developer", "genres", "tags", "specs")
ITEM_TEXT = {"fields": list(TEXT_FIELDS), "style": "pipes"}
_KEYS = ("username", "product_id", "date")
_LOST: Record = {"lost": True}
_parse_review = dict_parser(_KEYS)
_parse_game = dict_parser(("id", *TEXT_FIELDS))
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = date(1970, 1, 1).toordinal()
_SECONDS_A_DAY = 86_400


def open_source(fetcher: Fetcher, max_malformed: float, variant: str = "full") -> Source:
    """The source of the Steam data set, its files found or downloaded.

    `variant` "published" keeps only the reviews that the paper's code did not lose: see
    `lost_by_published_code`. The files have no rating; every interaction gets 1.

    Raises:
        ConversionError: the files are neither there nor to be had.
    """
    fetcher.announce("steam", ("reviews", "games"))
    reviews = Tally(fetcher.get("steam", "reviews"), max_malformed)
    games = Tally(fetcher.get("steam", "games"), max_malformed)
    dropped: Counter[str] = Counter()
    return Source(
        name="steam",
        chunks=_reviews(reviews, variant),
        fields=Fields(
            "username", "product_id", "date", None, _Days(), partial(_row, dropped=dropped)
        ),
        row_tally=reviews,
        items=_games(games, dropped),
        item_tally=games,
        text={name: name for name in TEXT_FIELDS},
        clean=plain_text,
        item_text=ITEM_TEXT,
        dropped=dropped,
        settings={"variant": variant},
    )


def lost_by_published_code(line: str) -> bool:
    """Whether the paper's code lost this review.

    It made JSON of a line by replacing quotes and dropped what was no JSON then: an apostrophe or a
    quote inside a text (Python writes such a text with double quotes or a backslash), any escape,
    and None.
    """
    return '"' in line or "\\" in line or ": None" in line


@cache
def seconds_of(day: str) -> int:
    """Seconds since 1970 of midnight UTC of `YYYY-MM-DD`. Raises ValueError for anything else."""
    if not _DAY.fullmatch(day):
        raise ValueError(f"date {day!r:.60} is not YYYY-MM-DD")
    return (date.fromisoformat(day).toordinal() - _EPOCH) * _SECONDS_A_DAY


class _Days:
    kind = "date"

    @staticmethod
    def of_column(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        days = column.dictionary_encode()
        seconds = [_seconds_or_none(day) for day in days.dictionary.to_pylist()]
        times = pa.array(seconds, pa.int64()).take(days.indices)
        return times.fill_null(0).to_numpy().copy(), times.is_valid().to_numpy(False)


def _seconds_or_none(day: object) -> int | None:
    try:
        return seconds_of(str(day))
    except ValueError:
        return None


def _row(review: Record, dropped: Counter[str]) -> Row:
    if review is _LOST:
        dropped["review lost by the published code"] += 1
        raise LeftOutError
    day = seconds_of(str(review.get("date")))
    return checked_row(review.get("username"), review.get("product_id"), 1.0, day)


def _reviews(tally: Tally, variant: str) -> Iterator[Chunk]:
    """Reviews by columns; `_LOST` stands for those that the published code lost."""
    before = 0
    for block in read_blocks(tally.path):
        lines = list(io.BytesIO(block))
        places = [n for n, line in enumerate(lines) if not line.isspace()]
        records: list[Record] = []
        problems: dict[int, str] = {}
        for row, place in enumerate(places):
            try:
                text = text_of(lines[place])
                lost = variant == "published" and lost_by_published_code(text)
                records.append(_LOST if lost else _parse_review(text))
            except ValueError as error:
                problems[row] = str(error)
                records.append({})
        yield chunk_of_records(records, _KEYS, [before + n + 1 for n in places], problems)
        before += len(lines)


def _games(tally: Tally, dropped: Counter[str]) -> Iterator[tuple[str, dict[str, object]]]:
    for line in read_lines(tally):
        try:
            game = _parse_game(text_of(line))
        except ValueError as error:
            tally.reject(error)
            continue
        item = game.get("id")
        if isinstance(item, str) and item:
            yield item, game
        else:
            dropped["game without an id"] += 1
