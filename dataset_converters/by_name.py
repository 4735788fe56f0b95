"""Data sets known by name: made on demand for a quick start."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_converters.atomic import dataset_folder, dataset_lock, is_whole, require_converted
from dataset_converters.convert import Options, Source, convert
from dataset_converters.reading.lines import MAX_MALFORMED
from dataset_converters.sources import amazon2023, steam
from dataset_converters.sources.paper_counts import compare

if TYPE_CHECKING:
    from dataset_converters.downloads.fetcher import Fetcher

logger = logging.getLogger(__name__)

STEAM_CORE = 5


def source_of(name: str) -> str | None:
    """`amazon2023` or `steam` for the name of a known data set, None for any other."""
    if name == "steam":
        return name
    return "amazon2023" if name.islower() and amazon2023.category_of(name) else None


def convert_by_name(name: str, out_dir: Path, *, raw: Path | None = None) -> bool:
    """Make `{out_dir}/{name}/{name}.inter` and its companions if the data set is known.

    The files are downloaded to `{out_dir}/raw`, after saying which and how large they are; with
    `raw`, the folder of files already there, nothing is downloaded. An existing data set stays.

    Args:
        name: `steam`, or a category of Amazon Reviews 2023 in lower case (`musical_instruments`).
        out_dir: the folder of data sets, RecBole's `data_path`.
        raw: the folder of the publishers' files, plain or gzipped.

    Returns:
        False if the name is unknown here, and nothing was done; else True.

    Raises:
        ConversionError: the files cannot be had, read or written.
    """
    if (known := source_of(name)) is None:
        return False
    category = amazon2023.category_of(name) if known == "amazon2023" else None
    folder = dataset_folder(out_dir, name)
    with dataset_lock(folder):
        if is_whole(folder):
            return True
        require_converted(folder)  # before anything is downloaded
        from dataset_converters.downloads.fetcher import Fetcher  # brings requests

        fetcher = Fetcher(raw, folder.parent / "raw", offline=offline_by_environment())
        logger.info(f"{folder} has no data set yet: converting {name} from its publisher's files")
        comparison = compare(convert(folder, *_source(category, fetcher)))
    if comparison:
        logger.info(comparison)
    return True


def _source(category: str | None, fetcher: Fetcher) -> tuple[Source, Options]:
    """Of Steam, or of a category of Amazon."""
    if category is None:
        core = Options(user_core=STEAM_CORE, item_core=STEAM_CORE)
        return steam.open_source(fetcher, MAX_MALFORMED), core
    return amazon2023.open_source(category, fetcher, MAX_MALFORMED), Options()


def offline_by_environment() -> bool:
    """Whether the environment asks for offline use, as Hugging Face's libraries understand it."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")
