"""RecBole's atomic files, all of a data set at once or none of it.

A data set is written into a hidden folder beside its place and takes that place by rename. Whatever
else lies in the old folder (side-feature files, say) comes along.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

import yaml

from dataset_converters.errors import ConversionError
from dataset_converters.place_lock import place_lock
from dataset_converters.reading.lines import sha256_of

logger = logging.getLogger(__name__)

_SETTINGS_HEAD = (
    "# Read by every run on this data set; written by its conversion. Settings of your own belong\n"
    "# in a file for --config_files, which wins over this one.\n"
)
_YAML_HASH = "yaml_sha256"  # in the statistics
_RECBOLES_OWN = ("ml-100k",)
INTER_HEADER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write tab-separated rows as RecBole's `pandas.read_csv` reads them back.

    A field with a quote in it is quoted and its quotes doubled; fields hold no control characters.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_settings(path: Path, item_text: Mapping[str, object] | None) -> dict[str, str]:
    """Write the configuration that a run on this data set reads by itself; gives what the
    statistics are to hold, so that a change of the file is noticed."""
    load = [column.partition(":")[0] for column in INTER_HEADER if not column.startswith("rating")]
    settings: dict[str, object] = {"load_col": {"inter": load}}
    if item_text:
        settings["item_text"] = dict(item_text)
    listed = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, default_flow_style=None)
    path.write_text(_SETTINGS_HEAD + listed, encoding="utf-8")
    return {_YAML_HASH: sha256_of(path)}


def file_names(name: str) -> tuple[str, str, str, str]:
    """The files of the data set `name`: interactions, items, statistics, settings."""
    return f"{name}.inter", f"{name}.item", f"{name}.stats.json", f"{name}.yaml"


def parquet_name(name: str) -> str:
    """The interactions of the data set `name` as Parquet, where they were asked for."""
    return f"{name}.inter.parquet"


def dataset_folder(out: Path, name: str) -> Path:
    """The folder `out/name` of the data set `name`.

    Raises:
        ConversionError: the name cannot be that of a folder, or is that of RecBole's own data
            set; the folder may not be looked at, or it is a symbolic link, which could not be
            replaced as a whole.
    """
    if not name or name.startswith((".", "-")) or not name.isprintable() or set(name) & set("/\\:"):
        raise ConversionError(f"'{name}' cannot be the name of a data set")
    if name in _RECBOLES_OWN:
        raise ConversionError(
            f"{name} comes with RecBole, and a run takes that one; choose another --name"
        )
    folder = Path(out).resolve() / name
    try:
        is_link = folder.is_symlink()
    except OSError as error:
        raise ConversionError(f"{folder}: cannot be written ({error.strerror})") from error
    if is_link:
        raise ConversionError(
            f"{folder} is a symbolic link; make it a folder, or link {out} instead"
        )
    return folder


def is_whole(folder: Path) -> bool:
    """Whether `folder` holds the interactions that bear its name."""
    return (folder / file_names(folder.name)[0]).is_file()


def require_converted(folder: Path) -> None:
    """Raise ConversionError if files that no conversion wrote lie where one would write."""
    inter, items, stats, _ = file_names(folder.name)
    if (folder / stats).exists():
        return
    for name in (inter, items, parquet_name(folder.name)):
        if (folder / name).exists():
            raise ConversionError(
                f"{folder / name}: no conversion wrote this file, for {stats} is not beside it; "
                "move it away, or choose another --name"
            )


@contextmanager
def dataset_lock(folder: Path) -> Iterator[None]:
    """Hold the data set `folder` for one process; mend what a killed one left behind.

    Raises:
        ConversionError: see `place_lock`.
    """
    with place_lock(folder):
        if _new(folder).exists():
            logger.info("%s: removing what an interrupted conversion left", _new(folder))
        _tidy(folder)
        yield


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write in; it takes the place of `folder` when the block ends well.

    Call it under `dataset_lock`. A kill between the two renames leaves no `folder` for a moment;
    the next `dataset_lock` puts the old one back.
    """
    new, old = _new(folder), _old(folder)
    new.mkdir()
    try:
        yield new
        for path in new.iterdir():
            _flush(path)
        if folder.exists():
            _carry_over(folder, new, folder.name)
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        _tidy(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _new(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.new"


def _old(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.old"


def _tidy(folder: Path) -> None:
    """Remove what is unfinished; the old data set is put back if the new one is not in place."""
    new, old = _new(folder), _old(folder)
    if new.exists():
        shutil.rmtree(new)
    if old.exists() and folder.exists():
        shutil.rmtree(old)
    elif old.exists():
        old.rename(folder)


def _carry_over(old: Path, new: Path, name: str) -> None:
    """Bring along what no conversion writes; items and settings of the old data set stay behind,
    but for settings that would be lost."""
    _, items, stats, settings = names = file_names(name)
    own = {*names, parquet_name(name)}
    for path in old.iterdir():
        target = new / path.name
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=_link)
        elif path.name not in own:
            _link(path, target)
    if (old / items).exists() and not (new / items).exists():
        logger.warning("%s of the data set before is gone: this one has no items file", items)
    if (old / settings).exists() and not (
        _same_bytes(old / settings, new / settings) or _as_written(old / stats, old / settings)
    ):
        kept = _set_aside(old / settings, new, name)
        logger.info("%s is written anew; the old one stays as %s", settings, kept)


def _as_written(stats: Path, settings: Path) -> bool:
    """Whether the settings are those that the conversion wrote, as far as its statistics say."""
    try:
        return bool(json.loads(stats.read_text("utf-8"))[_YAML_HASH] == sha256_of(settings))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _set_aside(settings: Path, new: Path, name: str) -> str:
    """Keep the settings under the first name that is free; the name."""
    names = chain((f"{name}.before.yaml",), (f"{name}.before-{n}.yaml" for n in count(2)))
    kept = next(new / one for one in names if not os.path.lexists(new / one))
    _link(settings, kept)
    return kept.name


def _same_bytes(left: Path, right: Path) -> bool:
    return left.is_file() and right.is_file() and left.read_bytes() == right.read_bytes()


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):  # no hard links here, or none that leave links alone
        shutil.copy2(source, target, follow_symlinks=False)


def _flush(path: Path) -> None:
    """Have the file's bytes on the disk before its name says that it is whole."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
