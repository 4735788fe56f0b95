"""The arguments of the command, from the line that was typed and from `--config`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dataset_converters.by_name import STEAM_CORE
from dataset_converters.config_file import arguments_of
from dataset_converters.convert import DUPLICATES
from dataset_converters.errors import ConversionError
from dataset_converters.reading.lines import MAX_MALFORMED
from dataset_converters.sources import own_times, steam


class _Parser(argparse.ArgumentParser):
    """Bad arguments are one line, as every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ConversionError(f"{message} (see {self.prog} --help)")


def parse(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """What was asked for.

    Args:
        prog: the command as the user typed it, for its help.

    Raises:
        ConversionError: arguments that make no sense, or a `--config` that cannot be read.
    """
    parser = _Parser(prog=prog, description="From files of many kinds to RecBole's atomic files.")
    sources = parser.add_subparsers(dest="source", required=True)
    for name, (about, example, add) in _SOURCES.items():
        source = sources.add_parser(
            name,
            help=about,
            description=about,
            epilog=f"example:\n  {prog} {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(source)
    return _parse_with_config(parser, argv)


def _add_amazon(amazon: argparse.ArgumentParser) -> None:
    amazon.add_argument(
        "--category",
        required=True,
        help="such as Musical_Instruments (or musical_instruments); with --raw, any name whose "
        "NAME.csv and meta_NAME.jsonl lie there",
    )
    _add_download(amazon)
    _add_common(amazon, "off: the official files are 5-core already")


def _add_steam(steam_parser: argparse.ArgumentParser) -> None:
    steam_parser.add_argument(
        "--steam_variant",
        choices=steam.VARIANTS,
        default="full",
        help="full: every review (default). published: the subset the paper's code kept by "
        "accident (no review with a quote, an apostrophe, an escape or None; users with k_core "
        "interactions, items not filtered), to compare with its tables",
    )
    _add_download(steam_parser)
    _add_common(steam_parser, f"{STEAM_CORE}")


def _add_common(parser: argparse.ArgumentParser, core: str) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("dataset"), help="folder of data sets (default: dataset)"
    )
    parser.add_argument("--name", help="name of the data set, if not the usual one")
    parser.add_argument(
        "--k_core",
        type=partial(_number, least=0),
        metavar="K",
        help="keep users and items with at least K interactions, until stable; 0 is off "
        f"(default: {core})",
    )
    parser.add_argument(
        "--duplicates",
        choices=DUPLICATES,
        default="keep",
        help="of repeated (user, item) pairs keep all (default), the first or the last in time",
    )
    parser.add_argument(
        "--keep_unknown_items",
        action="store_true",
        help="keep interactions with items that have no metadata; their texts are empty",
    )
    parser.add_argument(
        "--parquet", action="store_true", help="write the interactions as Parquet, too"
    )
    parser.add_argument(
        "--limit",
        type=partial(_number, least=1),
        metavar="N",
        help="read the first N interactions only",
    )
    parser.add_argument(
        "--max_malformed",
        type=_share,
        default=MAX_MALFORMED,
        metavar="SHARE",
        help="stop if more than this share of a file's lines is malformed "
        f"(default: {MAX_MALFORMED})",
    )


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--raw",
        type=Path,
        help="folder with the publisher's files, plain or .gz; nothing is downloaded then "
        "(default: download to OUT/raw)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="make no request; also by HF_HUB_OFFLINE=1"
    )
    parser.add_argument(
        "--sources", type=Path, help="YAML file of other addresses, shaped as sources.yaml"
    )


def _add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file with any of these options")
    parser.add_argument("--interactions", type=Path, help="the file of interactions (needed)")
    parser.add_argument("--user", default="user_id", help="column of users (default: user_id)")
    parser.add_argument("--item", default="item_id", help="column of items (default: item_id)")
    parser.add_argument(
        "--time",
        default="timestamp",
        help="column of times: whole numbers, kept as they are, or ISO dates (default: timestamp)",
    )
    parser.add_argument("--rating", help="column of ratings; without it every rating is 1")
    parser.add_argument("--items", type=Path, help="the file of items")
    parser.add_argument("--item_id", help="column of items in --items, if named otherwise")
    parser.add_argument(
        "--text",
        nargs="+",
        metavar="COLUMN",
        help="text columns of --items, in the order they are to be read; FIELD=COLUMN renames",
    )
    parser.add_argument(
        "--encoding", help="of both files, such as utf-16 or latin-1 (default: guessed)"
    )
    parser.add_argument(
        "--no_quotes",
        action="store_true",
        help="quotes of CSV and TSV files are letters as others, for files that do not quote",
    )
    parser.add_argument(
        "--time_unit",
        choices=own_times.UNITS,
        help="what dates become (default: s); whole numbers stay as they are",
    )
    _add_common(parser, "off")


_SOURCES = {
    "amazon2023": (
        "one category of Amazon Reviews 2023",
        "--category Musical_Instruments",
        _add_amazon,
    ),
    "steam": ("Steam's reviews and games", "--out dataset", _add_steam),
    "csv": (
        "your own interactions (CSV, TSV, JSON lines, Parquet)",
        "--name shop --interactions orders.csv --user customer --item article --time when \\\n"
        "    --items articles.csv --text title descr",
        _add_own,
    ),
}


def _parse_with_config(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse; options of a --config file come first, so that those of the command line win."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(argv)
    if args.source != "csv":
        return args
    if args.config is not None:
        args = parser.parse_args(["csv", *_configured(parser, args), *argv[1:]])
    if args.interactions is None:
        raise ConversionError("--interactions is needed: the file of your interactions")
    _check_columns(args)
    args.text = _fields_of(args.text or ())
    return args


def _configured(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """The arguments of the --config file; what is wrong with one of them is said with its name."""
    known = set(vars(args)) - {"source", "config"}
    flags = {name for name in known if isinstance(getattr(args, name), bool)}
    given = arguments_of(args.config, known, flags)
    try:
        parser.parse_args(["csv", *given])
    except ConversionError as error:
        raise ConversionError(f"{args.config}: {error}") from error
    return given


def _check_columns(args: argparse.Namespace) -> None:
    for name in ("user", "item", "time", "rating", "item_id"):
        if getattr(args, name) == "":
            raise ConversionError(f"--{name}: the name of the column is missing")
    for name in ("item_id", "keep_unknown_items"):
        if getattr(args, name) and args.items is None:
            raise ConversionError(
                f"--{name} is for a file of items; name that with --items, or leave --{name} out"
            )


def _fields_of(entries: Sequence[str]) -> dict[str, str]:
    """Columns by the fields that they become, of FIELD=COLUMN or COLUMN."""
    columns: dict[str, str] = {}
    for name, _, column in (entry.partition("=") for entry in entries):
        if name in columns:
            raise ConversionError(
                f"--text: the field {name} is named twice; give every column its own, as in "
                f"{name}2={column or name}"
            )
        columns[name] = column or name
    return columns


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
    return number


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share from 0 to 1")
    return share
