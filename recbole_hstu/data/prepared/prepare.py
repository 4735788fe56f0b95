"""Find the prepared set of a configuration, or make it: once, by one process at a time."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_hstu.data.prepared.arrow_files import NotWhole
from recbole_hstu.data.prepared.prepared_set import PreparedSet, write_prepared
from recbole_hstu.data.prepared.sources import content_hashes, stamps
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.files.cache_folder import cache_folder
from recbole_hstu.support.files.file_lock import one_at_a_time
from recbole_hstu.support.files.whole_file import whole_folder
from recbole_hstu.support.settings import Settings

_FORMAT = 1
_AUTO_BYTES = 1 << 26
# What decides how a data set is read, filtered and numbered.
_DECIDE = (
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD", "load_col", "unload_col"),
    *("field_separator", "seq_separator", "encoding", "seq_len", "tie_order", "limit_users"),
    *("rm_dup_inter", "val_interval", "filter_inter_by_user_or_item"),
    *("user_inter_num_interval", "item_inter_num_interval"),
    *("alias_of_user_id", "alias_of_item_id", "normalize_field", "normalize_all"),
)
# With these a data set knows more than a prepared one keeps.
_BEYOND = (
    *("benchmark_filename", "additional_feat_suffix", "preload_weight", "threshold"),
    *("numerical_features", "discretization"),
)

logger = logging.getLogger(__name__)


def is_prepared(config: Settings, *, special: bool) -> bool:
    """Whether a data set is taken from a prepared set: where `prepared` says so, and its
    interactions have users, items and times.

    Args:
        special: whether it is of a kind of RecBole's that knows more than a prepared set keeps.

    Raises:
        InputError: it was asked for, and cannot be.
    """
    wanted = config["prepared"]
    if wanted == "never":
        return False
    inter = Path(config["data_path"]) / f"{config['dataset']}.inter"
    if wanted == "auto" and not (inter.is_file() and inter.stat().st_size >= _AUTO_BYTES):
        return False
    reason = f"not for the data set of {config['model']}" if special else _reason_against(config)
    if reason and wanted == "always":
        raise InputError(f"prepared: {reason}; leave it out")
    if reason:
        logger.info("%s is read anew at every start: prepared: %s", inter, reason)
    return not reason


def _reason_against(config: Settings) -> str:
    beyond = [name for name in _BEYOND if config[name]]
    if beyond:
        return f"not together with {', '.join(beyond)}"
    needed = {config[name] for name in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")}
    loaded = (config["load_col"] or {"inter": "*"}).get("inter", ())
    absent = set() if loaded == "*" else needed - set(loaded)
    return f"load_col lacks {', '.join(map(str, sorted(absent, key=str)))}" if absent else ""


def prepared_set(config: Settings, load: Callable[[], Any]) -> PreparedSet:
    """The prepared set of a configuration's data set, of the files' present content.

    Where there is none, or one of other content, it is made: `load` gives the data set as it
    stands after `_data_processing`. Where another process makes it, this one waits.

    Raises:
        InputError: a file cannot be read or changes meanwhile, the disk is full.
    """
    files = _sources(config)
    place = _place(config)
    settings = {name: config[name] for name in _DECIDE} | {"format": _FORMAT}
    key = _short_hash(json.dumps(settings, sort_keys=True, default=str))
    folder = place / f"{config['dataset']}.{key}.prepared"
    with _written(folder):
        place.mkdir(parents=True, exist_ok=True)
        kept = place / f"{config['dataset']}.hashes.json"
        hashes = content_hashes(files, kept)
        if found := _found(folder, hashes):
            return found
        waiting = f"{folder}: another process prepares it; waiting"
        with one_at_a_time(folder.with_suffix(".lock"), waiting):
            hashes = content_hashes(files, kept)
            return _found(folder, hashes, log=True) or _made(folder, files, hashes, load)


def _made(folder: Path, files: list[Path], hashes: dict[str, str], load: Any) -> PreparedSet:
    started, before = time.perf_counter(), stamps(files)
    with _listening() as said:
        dataset = load()
    for old in (folder, *folder.parent.glob(f".{glob.escape(folder.name)}.*.part")):
        shutil.rmtree(old, ignore_errors=True)  # who has mapped it keeps it; parts are of the dead
    with whole_folder(folder) as part:
        write_prepared(part, dataset, {"sources": hashes, "said": said})
        changed = [name for name, stamp in stamps(files).items() if stamp != before[name]]
        if changed:
            raise InputError(
                f"{files[0].with_name(changed[0])}: changed while it was read; start again when "
                "nobody writes it"
            )
    prepared = PreparedSet(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    seconds = time.perf_counter() - started
    logger.info(
        "prepared: %s (%s interactions, %s bytes) made in %.1f s; later starts map it",
        *(folder, f"{len(prepared):,}", f"{size:,}", seconds),
    )
    return prepared


def _found(folder: Path, hashes: dict[str, str], log: bool = False) -> PreparedSet | None:
    """The set in a folder, if it is of these sources; what its making said is said again."""
    if not folder.exists():
        return None
    try:
        found = PreparedSet(folder)
    except NotWhole as error:
        if log:
            logger.warning("%s: not whole (%s); it is made again", folder, error)
        return None
    changed = [name for name, sha in hashes.items() if found.state["sources"].get(name) != sha]
    if changed or found.state["sources"].keys() != hashes.keys():
        if log:
            what = ", ".join(changed) or "the list of files"
            logger.info("%s: %s has changed; it is made again", folder, what)
        return None
    logger.info("prepared: %s", folder)
    for level, line in found.state["said"]:
        logger.log(level, line)
    return found


def _sources(config: Settings) -> list[Path]:
    """The atomic files that RecBole would read."""
    loaded = config["load_col"]
    kinds = [kind for kind in ("inter", "user", "item") if loaded is None or kind in loaded]
    files = [Path(config["data_path"]) / f"{config['dataset']}.{kind}" for kind in kinds]
    return [file for file in files if file.is_file()]


def _place(config: Settings) -> Path:
    """Beside the atomic files, or in the cache folder if that cannot be written."""
    beside = Path(config["data_path"])
    if os.access(beside, os.W_OK):
        return beside
    return cache_folder() / "prepared" / _short_hash(str(beside.resolve()))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({in_a_line(error.strerror or error)}); free space, or "
            "do without: --prepared=never"
        ) from error


@contextmanager
def _listening() -> Iterator[list[tuple[int, str]]]:
    """What is logged inside the block, from INFO on: (level, line). Who else listens hears no more
    than before."""
    said: list[tuple[int, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.levelno, record.getMessage()))

    root, ours = logging.getLogger(), logging.getLogger("recbole_hstu.data")
    own, heard = ours.level, ours.getEffectiveLevel()
    others, listener = root.handlers[:], Listener(logging.INFO)

    def as_before(record: logging.LogRecord) -> bool:
        return record.levelno >= heard or not record.name.startswith(ours.name)

    for handler in others:
        handler.addFilter(as_before)
    root.addHandler(listener)
    ours.setLevel(min(heard, logging.INFO))
    try:
        yield said
    finally:
        ours.setLevel(own)
        root.removeHandler(listener)
        for handler in others:
            handler.removeFilter(as_before)
