"""Amazon Reviews 2023: the 5-core ratings and the item metadata of one category."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dataset_converters.convert import Source
from dataset_converters.errors import ConversionError
from dataset_converters.gathering import Fields
from dataset_converters.interactions import Row, checked_row
from dataset_converters.reading.chunks import Chunk, Record
from dataset_converters.reading.clean_text import amazon_text
from dataset_converters.reading.clocks import whole_numbers
from dataset_converters.reading.csv_chunks import Layout, csv_chunks
from dataset_converters.reading.lines import Tally, parse_json_object, read_blocks, read_lines
from dataset_converters.reading.tables import first_line

if TYPE_CHECKING:
    from dataset_converters.downloads.fetcher import Fetcher

CATEGORIES = (
    "All_Beauty",
    "Amazon_Fashion",
    "Appliances",
    "Arts_Crafts_and_Sewing",
    "Automotive",
    "Baby_Products",
    "Beauty_and_Personal_Care",
    "Books",
    "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories",
    "Clothing_Shoes_and_Jewelry",
    "Digital_Music",
    "Electronics",
    "Gift_Cards",
    "Grocery_and_Gourmet_Food",
    "Handmade_Products",
    "Health_and_Household",
    "Health_and_Personal_Care",
    "Home_and_Kitchen",
    "Industrial_and_Scientific",
    "Kindle_Store",
    "Magazine_Subscriptions",
    "Movies_and_TV",
    "Musical_Instruments",
    "Office_Products",
    "Patio_Lawn_and_Garden",
    "Pet_Supplies",
    "Software",
    "Sports_and_Outdoors",
    "Subscription_Boxes",
    "Tools_and_Home_Improvement",
    "Toys_and_Games",
    "Video_Games",
)
TEXT_FIELDS = ("title", "features", "categories", "description", "store")
# Without the store, and in ASCII, as BLaIR's own preparation.
ITEM_TEXT = {"fields": list(TEXT_FIELDS[:4]), "style": "sentences", "ascii": True}
_HEADER = ("user_id", "parent_asin", "rating", "timestamp")
_INTEGER = re.compile(r"-?[0-9]+")
_BY_SHORT_NAME = {category.lower(): category for category in CATEGORIES}


def category_of(name: str) -> str | None:
    """The publisher's name of a category, given that or our short name; None if there is none."""
    return _BY_SHORT_NAME.get(name.lower())


def dataset_name(category: str) -> str:
    """`Musical_Instruments` is the data set musical_instruments; other names stay as they are."""
    return category.lower() if category in CATEGORIES else category


def open_source(category: str, fetcher: Fetcher, max_malformed: float) -> Source:
    """The source of one category, its files found or downloaded.

    Raises:
        ConversionError: the files are neither there nor to be had.
    """
    known = category_of(category)
    if known is None and fetcher.raw is None:
        raise ConversionError(
            f"'{category}' is no category of Amazon Reviews 2023; name one of "
            f"{', '.join(CATEGORIES)}, or give the folder of {category}.csv and "
            f"meta_{category}.jsonl by --raw"
        )
    category = known or category
    fetcher.announce("amazon2023", ("ratings", "metadata"), category)
    ratings = Tally(fetcher.get("amazon2023", "ratings", category), max_malformed)
    metadata = Tally(fetcher.get("amazon2023", "metadata", category), max_malformed)
    return Source(
        name="amazon2023",
        chunks=_ratings(ratings),
        fields=Fields("user_id", "parent_asin", "timestamp", "rating", _Milliseconds(), _row),
        row_tally=ratings,
        items=_metadata(metadata),
        item_tally=metadata,
        text={name: name for name in TEXT_FIELDS},
        clean=amazon_text,
        item_text=ITEM_TEXT,
        settings={"category": category},
    )


def _ratings(tally: Tally) -> Iterator[Chunk]:
    """The ratings file by columns; ids never hold a comma, and a quote is a letter."""
    header, blocks = first_line(read_blocks(tally.path))
    header = header.rstrip("\r")
    if tuple(header.split(",")) != _HEADER:
        raise ConversionError(
            f"{tally.path}: the first line is not the header {','.join(_HEADER)}; "
            "is it a file of Amazon Reviews 2023, rating_only?"
        )
    yield from csv_chunks(blocks, Layout(",", list(_HEADER), _HEADER, quotes=False))


class _Milliseconds:
    kind = "number"
    of_column = staticmethod(whole_numbers)


def _row(record: Record) -> Row:
    time = record["timestamp"]
    if not _INTEGER.fullmatch(time):
        raise ValueError(f"time {time!r:.60} is no whole number")
    return checked_row(record["user_id"], record["parent_asin"], record["rating"], int(time))


def _metadata(tally: Tally) -> Iterator[tuple[str, dict[str, object]]]:
    for line in read_lines(tally):
        try:
            record = parse_json_object(line)
            item = record.get("parent_asin")
            if not isinstance(item, str) or not item:
                raise ValueError("no parent_asin")
        except ValueError as error:
            tally.reject(error)
        else:
            yield item, record
