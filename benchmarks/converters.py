"""How fast and how lean the converters are on files of full size.

Real lines are repeated under new ids until there are 1.8 million interactions, 78,000 items and a
metadata file of 2 GB (Amazon), and 1.8 million reviews (Steam); then the command runs on them as a
process of its own. Run from the repository's root:

    python benchmarks/converters.py --amazon DIR --steam DIR

where the folders hold Electronics_sample.csv.gz and meta_Electronics_sample.jsonl.gz, and
steam_reviews.json.gz and steam_games.json.gz.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import itertools
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orders import converted

from recbole_hstu.reports.text_tables import markdown_table

INTERACTIONS = 1_800_000
ITEMS = 78_000
METADATA_BYTES = 2_000_000_000
logger = logging.getLogger("benchmark")


def make_amazon(source: Path, folder: Path, shrink: int) -> None:
    """Ratings and metadata of a category called Large; items beyond the wanted are in no rating."""
    with gzip.open(source / "meta_Electronics_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        metadata = [line.rstrip("\n") for line in file]
    ids = [json.loads(line)["parent_asin"] for line in metadata]
    with gzip.open(source / "Electronics_sample.csv.gz", "rt", encoding="utf-8") as file:
        header, *ratings = file.read().splitlines()
    copies = -(-ITEMS // len(ids))  # the last copy in part
    wanted = {f"{item}{copy}" for copy in range(copies) for item in ids[: ITEMS - copy * len(ids)]}
    with (folder / "Large.csv").open("w", encoding="utf-8") as file:
        file.write(header + "\n")
        for row in range(INTERACTIONS // shrink):
            copy, line = divmod(row, len(ratings))
            user, item, rest = ratings[line].split(",", 2)
            name = f"{item}{copy % copies}"
            name = name if name in wanted else f"{item}0"
            file.write(f"{user}{copy},{name},{rest}\n")
    written = 0
    with (folder / "meta_Large.jsonl").open("w", encoding="utf-8") as file:
        for copy in itertools.count():
            for item, line in zip(ids, metadata, strict=True):
                written += file.write(line.replace(f'"{item}"', f'"{item}{copy}"') + "\n")
            if written > METADATA_BYTES // shrink:
                return


def make_steam(source: Path, folder: Path, shrink: int) -> None:
    """As many reviews as Amazon has interactions; a third of them with a text that needs care."""
    with gzip.open(source / "steam_reviews.json.gz", "rt", encoding="utf-8") as file:
        reviews = file.readlines()
    texts = itertools.cycle(
        [
            "u'A plain review of a game that runs well. ' ",
            "u\"It's a game I can't stop playing.\\n\\nReally. \" ",
            "u'caf\\xe9 \\u2122 \"quoted\" ' ",
        ]
    )
    with (folder / "steam_reviews.json").open("w", encoding="utf-8") as file:
        for row in range(INTERACTIONS // shrink):
            copy, line = divmod(row, len(reviews))
            review = reviews[line].replace(": u'user", f": u'{copy}user", 1)
            text = next(texts).strip()
            file.write(review.replace("{", "{u'text': " + text + ", ", 1))
    (folder / "steam_games.json.gz").write_bytes((source / "steam_games.json.gz").read_bytes())


def measure(name: str, files: list[Path], *args: str) -> list[str]:
    """Run the command; returns a row of the table."""
    with tempfile.TemporaryDirectory(dir=files[0].parent) as out:
        seconds, usage = converted([*args, "--out", out])
    lines = sum(_count_lines(path) for path in files)
    size = sum(_plain_size(path) for path in files)
    row = [name, f"{lines:,}", f"{size / 1e6:.0f} MB", f"{seconds:.1f} s"]
    row += [f"{lines / seconds:,.0f}", f"{size / 1e6 / seconds:.0f}"]
    return [*row, f"{usage.ru_maxrss / 2**20:.2f} GiB"]


def compare_literals(path: Path, lines: int = 20_000) -> None:
    """The reader of Python literals against `ast.literal_eval`, on the same reviews."""
    from dataset_converters.reading.literals import dict_parser

    with path.open(encoding="utf-8") as file:
        reviews = list(itertools.islice(file, lines))
    keys = ("username", "product_id", "date")
    times = {}
    for name, parse in (("fast", dict_parser(keys)), ("ast.literal_eval", ast.literal_eval)):
        begun = time.perf_counter()
        records = [parse(line) for line in reviews]
        times[name] = time.perf_counter() - begun
        if {key: records[-1][key] for key in keys} != dict_parser(keys)(reviews[-1]):
            raise SystemExit("the readers disagree")
    logger.info(
        "Python literals: %.1f us a line, ast.literal_eval %.1f us: %.1f times as fast",
        times["fast"] / len(reviews) * 1e6,
        times["ast.literal_eval"] / len(reviews) * 1e6,
        times["ast.literal_eval"] / times["fast"],
    )


def _open(path: Path):
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _count_lines(path: Path) -> int:
    with _open(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _plain_size(path: Path) -> int:
    with _open(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(1 << 20), b""))


def main() -> None:
    """Make the files, measure, remove them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--amazon", type=Path, required=True)
    parser.add_argument("--steam", type=Path, required=True)
    parser.add_argument("--shrink", type=int, default=1, help="make all files this much smaller")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)  # the folder to fill
    args = parser.parse_args()
    if args.make:
        make_amazon(args.amazon, args.make, args.shrink)
        make_steam(args.steam, args.make, args.shrink)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # By a process of its own: a child's peak memory is at least that of its parent.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], f"--make={name}"], check=True)
        names = ["source", "lines", "size", "time", "lines/s", "MB/s", "peak memory"]
        amazon = [folder / "Large.csv", folder / "meta_Large.jsonl"]
        options = ["--category", "Large", "--raw", name]
        rows = [measure("amazon2023", amazon, "amazon2023", *options)]
        steam = [folder / "steam_reviews.json", folder / "steam_games.json.gz"]
        rows.append(measure("steam", steam, "steam", "--raw", name))
        logger.info(markdown_table(names, rows))
        compare_literals(folder / "steam_reviews.json")


if __name__ == "__main__":
    main()
