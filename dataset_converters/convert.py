"""One conversion, the same for every source: read, filter, order, write, report."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dataset_converters.atomic import (
    file_names,
    parquet_name,
    replacing,
    write_json,
    write_rows,
    write_settings,
)
from dataset_converters.event_files import write_interactions, write_parquet
from dataset_converters.gathering import Fields, gather
from dataset_converters.ids import ID
from dataset_converters.interactions import (
    Interactions,
    doubtful_times,
    mixed_units,
    require_rows,
)
from dataset_converters.reading.chunks import Chunk
from dataset_converters.reading.lines import Tally, file_facts

logger = logging.getLogger(__name__)

DUPLICATES = ("keep", "first", "last")
# Python's csv module, with which RecBole's own reader works, refuses longer fields.
_STOCK_FIELD_LIMIT = 131_072
# The ids that RecBole's own reader takes for missing (pandas' default).
_STOCK_MISSING = frozenset(
    (
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)


@dataclass(frozen=True)
class Options:
    """What to keep. `user_core` and `item_core` are the fewest interactions of each, 0 for all."""

    user_core: int = 0
    item_core: int = 0
    duplicates: str = "keep"
    keep_unknown_items: bool = False
    limit: int | None = None


@dataclass
class Source:
    """The raw records of one data set; both iterators are read once, the interactions first.

    `text` maps each text field of the `.item` file to its key in an item's record; `clean` turns
    such a value into one line. `item_text` says how a model reads these fields (RecBole's
    configuration key of that name). `dropped` counts, by reason, the records the iterators leave
    out although they are well formed. `settings` are the source's own, for the statistics.
    """

    name: str
    chunks: Iterator[Chunk]
    fields: Fields
    row_tally: Tally
    items: Iterator[tuple[str, Mapping[str, object]]] | None = None
    item_tally: Tally | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    clean: Callable[[object], str] = str
    item_text: Mapping[str, object] | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    settings: dict[str, object] = field(default_factory=dict)


def convert(folder: Path, source: Source, options: Options, parquet: bool = False) -> dict:
    """Write the data set of `source` to `folder`, whose name it bears, the interactions as Parquet,
    too, where asked for; returns its statistics.

    To be called under `atomic.dataset_lock(folder)`, after `atomic.require_converted(folder)`.

    Raises:
        ConversionError: too many malformed lines, a damaged file, or no interaction left.
    """
    data = gather(source.chunks, source.fields, source.row_tally, options.limit)
    source.row_tally.finish()
    require_rows(data, f"reading {source.row_tally.path}", "check that it is the right file")
    read = data.counts()
    mixed = mixed_units(data.time) if source.fields.clock.kind == "number" else None
    for doubt in filter(None, (doubtful_times(data.time), mixed)):
        logger.warning("%s: %s", source.row_tally.path.name, doubt)
    with replacing(folder) as new:
        inter, item, stats_file, settings = (new / name for name in file_names(folder.name))
        spool = new / "spool.jsonl"
        metadata = _Metadata(source, options, spool)
        metadata.read(data)
        data.sort_by_time()
        repeated = _filter(data, metadata, source.dropped, options)
        write_interactions(inter, data)
        if parquet:
            write_parquet(new / parquet_name(folder.name), data)
        if source.items is not None:
            metadata.write(item, set(data.item_ids().to_pylist()))
            spool.unlink()
        counts = {"read": read, "repeated_pairs": repeated}
        stats = _statistics(folder.name, source, options, data, metadata, counts)
        write_json(stats_file, stats | write_settings(settings, source.item_text))
    _report(folder, stats)
    _warn_about_stock_reader(data, metadata)
    return stats


def _statistics(
    name: str,
    source: Source,
    options: Options,
    data: Interactions,
    metadata: _Metadata,
    counts: dict[str, object],
) -> dict[str, object]:
    return {
        "name": name,
        "source": source.name,
        "settings": source.settings | asdict(options),
        **data.counts(),
        **data.describe(),
        "repeated_pairs": counts["repeated_pairs"],
        "read": counts["read"],
        "dropped": dict(sorted(source.dropped.items())),
        "metadata": metadata.stats(),
        "files": [_file_stats(t) for t in (source.row_tally, source.item_tally) if t],
    }


class _Metadata:
    """The items' texts: read once, kept on disk, written for the items that stay."""

    def __init__(self, source: Source, options: Options, spool: Path) -> None:
        self.known: set[str] = set()
        self.longest = 0
        self.unwanted: str | None = None  # an id that no interaction has
        self._source = source
        self._early_end = options.limit is not None
        self._spool = spool
        self._counts: Counter[str] = Counter()

    def read(self, data: Interactions) -> None:
        """Clean and spool the texts of the items of `data`; the first record of an item counts."""
        if self._source.items is None or self._source.item_tally is None:
            return
        wanted = set(data.item_ids().to_pylist())
        with self._spool.open("w", encoding="utf-8") as file:
            for item, record in self._source.items:
                if item not in wanted:
                    self._counts["not_needed"] += 1
                    self.unwanted = self.unwanted or item
                elif item in self.known:
                    self._counts["repeated"] += 1
                else:
                    self.known.add(item)
                    file.write(json.dumps([item, *self._texts(record)]) + "\n")
                    if self._early_end and len(self.known) == len(wanted):
                        break
        self._source.item_tally.finish()

    def write(self, path: Path, items: set[str]) -> None:
        """Write the `.item` file of `items`: in the metadata's order, unknown items last."""
        with self._spool.open(encoding="utf-8") as file:
            header = ["item_id:token", *(f"{name}:token_seq" for name in self._source.text)]
            write_rows(path, header, self._rows(map(json.loads, file), items))

    def remedy(self, data: Interactions) -> str:
        """What to do where no item of `data`, whose interactions may be dropped, is known."""
        files = (self._source.row_tally, self._source.item_tally)
        ids = (data.items[0].as_py(), self.unwanted)
        shown = (f"{i!r:.60} in {t.path.name}" for i, t in zip(ids, files, strict=True) if i and t)
        return (
            f"compare the ids of the two files ({', '.join(shown)}), or keep these interactions "
            "with --keep_unknown_items"
        )

    def stats(self) -> dict[str, object] | None:
        """Counts of records and of empty texts among the items written; None without metadata."""
        if self._source.items is None:
            return None
        names = ("written", "without_metadata", "not_needed", "repeated")
        empty = {name: self._counts[f"empty {name}"] for name in self._source.text}
        return {name: self._counts[name] for name in names} | {"empty_texts": empty}

    def _texts(self, record: Mapping[str, object]) -> list[str]:
        return [self._source.clean(record.get(key)) for key in self._source.text.values()]

    def _rows(self, spooled: Iterable[list[str]], items: set[str]) -> Iterator[list[str]]:
        unknown = sorted(items - self.known)
        self._counts["without_metadata"] = len(unknown)
        for row in spooled:
            if row[0] in items:
                self._count_texts(row[1:])
                yield row
        for item in unknown:
            row = [item] + [""] * len(self._source.text)
            self._count_texts(row[1:])
            yield row

    def _count_texts(self, texts: list[str]) -> None:
        self._counts["written"] += 1
        self.longest = max(self.longest, *map(len, texts)) if texts else self.longest
        for name, text in zip(self._source.text, texts, strict=True):
            self._counts[f"empty {name}"] += not text


def _filter(
    data: Interactions, metadata: _Metadata, dropped: Counter[str], options: Options
) -> int:
    """Drop what is not to stay of `data`, sorted by time; how many rows repeated a pair."""

    def count(rows: int, reason: str, remedy: str = "") -> None:
        if rows:
            dropped[reason] += rows
        require_rows(data, f"dropping interactions: {reason}", remedy)

    if metadata.stats() is not None and not options.keep_unknown_items:
        known = data.of_items(metadata.known)
        count(data.keep(known), "item without metadata", metadata.remedy(data))
    repeats = data.repeats("last" if options.duplicates == "last" else "first")
    if options.duplicates != "keep":
        count(data.keep(~repeats), "repeated (user, item) pair")
    core = f"fewer than {options.user_core} of a user or {options.item_core} of an item"
    count(data.drop_to_core(options.user_core, options.item_core), core, "lower --k_core")
    return int(repeats.sum())


def _file_stats(tally: Tally) -> dict[str, object]:
    return file_facts(tally.path) | {"records": tally.records, "malformed": tally.malformed}


def _report(folder: Path, stats: dict) -> None:
    logger.info(
        "%s: %s users, %s items, %s interactions; %s ties in time, %s repeated (user, item) pairs",
        folder,
        *(f"{stats[key]:,}" for key in ("users", "items", "interactions", "ties")),
        f"{stats['repeated_pairs']:,}",
    )
    for reason, count in stats["dropped"].items():
        logger.info("dropped: %s (%s)", f"{count:,}", reason)
    if stats["metadata"]:
        logger.info(
            "items: %s written, %s of them without metadata",
            f"{stats['metadata']['written']:,}",
            f"{stats['metadata']['without_metadata']:,}",
        )
        if stats["metadata"]["repeated"]:
            logger.warning(
                "items: %s records repeat an item id; the first of each id counts",
                f"{stats['metadata']['repeated']:,}",
            )


def _warn_about_stock_reader(data: Interactions, metadata: _Metadata) -> None:
    if metadata.longest >= _STOCK_FIELD_LIMIT:
        logger.warning(
            "the longest item text has %d characters; RecBole's own reader refuses fields of more "
            "than %d (leave the text out of load_col there)",
            metadata.longest,
            _STOCK_FIELD_LIMIT,
        )
    ids = pa.chunked_array([data.item_ids(), data.user_ids()])
    missing = sorted(set(ids.filter(pc.is_in(ids, pa.array(_STOCK_MISSING, ID))).to_pylist()))
    if missing:
        logger.warning("RecBole's own reader takes these ids for missing: %s", ", ".join(missing))
    if max(abs(int(data.time.min())), abs(int(data.time.max()))) >= 2**53:
        logger.warning("times of 2**53 and above are not exact in RecBole's own reader")
