"""Which content the source files of a data set have, without reading them at every start."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from dataset_converters.reading.lines import sha256_of
from recbole_hstu.support.errors import reading
from recbole_hstu.support.files.whole_file import write_whole

_SETTLED_S = 2.0  # a file may change again within one tick of its file system's clock


def stamps(files: Sequence[Path]) -> dict[str, list[int]]:
    """Size in bytes and time of the last change in ns, by file name.

    Raises:
        InputError: a file cannot be read.
    """
    found = {}
    for file in files:
        with reading(file):
            stat = file.stat()
        found[file.name] = [stat.st_size, stat.st_mtime_ns]
    return found


def content_hashes(files: Sequence[Path], kept: Path) -> dict[str, str]:
    """SHA-256 by file name. What `kept` (a JSON file) holds for a file of the same size and time
    of change is not computed again.

    Raises:
        InputError: a file cannot be read.
    """
    known, now = _read(kept), stamps(files)
    hashes = {}
    for file in files:
        same = known.get(file.name, {}).get("stamp") == now[file.name]
        with reading(file):
            hashes[file.name] = known[file.name]["sha256"] if same else sha256_of(file)
    settled = time.time_ns() - _SETTLED_S * 1e9
    entries = {
        name: {"stamp": stamp, "sha256": hashes[name]}
        for name, stamp in now.items()
        if stamp[1] < settled
    }
    if known != known | entries:
        write_whole(kept, json.dumps(known | entries, indent=1, sort_keys=True))
    return hashes


def _read(kept: Path) -> dict[str, dict]:
    try:
        return json.loads(kept.read_bytes())
    except (OSError, ValueError):
        return {}
