"""The command: arguments in, one conversion, exit status out."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_converters.arguments import parse
from dataset_converters.atomic import dataset_folder, dataset_lock, require_converted
from dataset_converters.by_name import STEAM_CORE, offline_by_environment
from dataset_converters.convert import Options, Source, convert
from dataset_converters.downloads.fetcher import Fetcher
from dataset_converters.errors import ConversionError
from dataset_converters.sources import amazon2023, own_data, steam
from dataset_converters.sources.paper_counts import compare

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, prog: str = "python -m dataset_converters") -> int:
    """Run one conversion; returns the exit status: 0, 2 for bad input, 130 when interrupted.

    Args:
        prog: the command as the user typed it, for its help.
    """
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s    %(levelname)s  %(message)s",
        datefmt="%d %b %H:%M",
    )
    try:
        _run(parse(argv, prog), prog)
    except ConversionError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("interrupted; the data set is as it was before\n")
        return getattr(interrupt, "status", 130)  # that of SIGTERM is another one
    return 0


def _run(args: argparse.Namespace, prog: str) -> None:
    folder = dataset_folder(args.out, _name(args))
    options = _options(args)
    with dataset_lock(folder):
        require_converted(folder)  # before anything is downloaded
        stats = convert(folder, _source(args), options, args.parquet)
    comparison = compare(stats)
    if comparison:
        logger.info(comparison)
    if args.source == "csv":
        logger.info("train on it: %s", _training(args, folder.name, prog))


def _training(args: argparse.Namespace, name: str, prog: str) -> str:
    """The command that trains on the data set, as this user can type it."""
    if prog.endswith("convert"):
        run = f"{prog.removesuffix('convert')}run"
    else:
        run = (
            "recbole-hstu run" if shutil.which("recbole-hstu") else "python -m recbole_hstu.cli run"
        )
    options = [f"--model={'HSTUText' if args.text else 'HSTU'}", f"--dataset={name}"]
    if args.out != Path("dataset"):
        options.append(f"--data_path={args.out}")
    return f"{run} {shlex.join(options)}"


def _name(args: argparse.Namespace) -> str:
    if args.name is not None:
        return args.name
    if args.source == "amazon2023":
        return amazon2023.dataset_name(amazon2023.category_of(args.category) or args.category)
    if args.source == "steam":
        return "steam"
    raise ConversionError("--name is needed: what the data set is to be called")


def _options(args: argparse.Namespace) -> Options:
    core = args.k_core
    if core is None:
        core = STEAM_CORE if args.source == "steam" else 0
    filters_items = getattr(args, "steam_variant", "full") == "full"
    return Options(
        user_core=core,
        item_core=core if filters_items else 0,
        duplicates=args.duplicates,
        keep_unknown_items=args.keep_unknown_items,
        limit=args.limit,
    )


def _source(args: argparse.Namespace) -> Source:
    if args.source == "csv":
        columns = own_data.Columns(
            args.user, args.item, args.time, args.rating, args.item_id, args.text
        )
        return own_data.open_source(
            args.interactions,
            args.items,
            columns,
            time_unit=args.time_unit,
            max_malformed=args.max_malformed,
            encoding=args.encoding,
            quotes=not args.no_quotes,
        )
    offline = args.offline or offline_by_environment()
    fetcher = Fetcher(args.raw, args.out / "raw", offline, args.sources)
    if args.source == "steam":
        return steam.open_source(fetcher, args.max_malformed, args.steam_variant)
    return amazon2023.open_source(args.category, fetcher, args.max_malformed)
