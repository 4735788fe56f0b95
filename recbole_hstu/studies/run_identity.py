"""Which runs are the same: the settings that decide an outcome, and the content of the data and
of the code of models from outside."""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_hstu.config.properties import PROPERTIES, settings_file
from recbole_hstu.data.files.semantic_id_file import semantic_ids_path
from recbole_hstu.records.run_record import as_recorded
from recbole_hstu.records.same_terms import decisive_options
from recbole_hstu.studies.planned_run import PlannedRun

HASHES = ("data_hash", "code_hash")
_KNOWN_CODE = {
    "builtins",
    "abc",
    "typing",
    "torch",
    "recbole",
    "recbole_hstu",
    "__main__",
    "__mp_main__",
}


def run_identity(planned: PlannedRun) -> dict[str, Any]:
    """The settings of a run, and a hash of the files that it reads: `data_hash`, and `code_hash` of
    the modules of a model of one's own."""
    config = planned.config
    text = getattr(config.model_class, "needs_text_features", False)
    wanted = decisive_options(config.plain(), text=text)
    folder, name = Path(config["data_path"]), glob.escape(planned.dataset)
    kinds = {"inter", *(config["load_col"] or ("item", "user", "kg", "link"))}
    kinds |= {"item"} if text else set()
    files = [file for kind in sorted(kinds) for file in sorted(folder.glob(f"{name}*.{kind}"))]
    if text and config["text_features_file"]:
        files.append(Path(config["text_features_file"]))
    if config["semantic_ids"]:
        files.append(semantic_ids_path(config))
    files += [Path(config[key]) for key in ("queries", "pre_model_path") if config[key]]
    wanted["data_hash"] = _hash_of(files)
    if code := _code_hash(config.model_class):
        wanted["code_hash"] = code
    return wanted


@cache  # as the class was when this process began with it, whatever becomes of its files
def _code_hash(model_class: type) -> str | None:
    """Of the modules of a class and its bases, without those of this package and of RecBole, and
    without the script or notebook that runs."""
    modules = dict.fromkeys(base.__module__ for base in model_class.__mro__)
    outside = [name for name in modules if name.partition(".")[0] not in _KNOWN_CODE]
    files = [getattr(sys.modules.get(name), "__file__", None) for name in outside]
    return _hash_of(Path(file) for file in files if file) if any(files) else None


def _hash_of(files: Iterable[Path]) -> str:
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return _hash(tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats))


@cache
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that changed; one that an older release did not have counts if it is set, but
    for the hash of a model's code."""
    old, new = as_recorded(old), as_recorded(new)  # one of them was read from a record
    defaults = settings_file(PROPERTIES / "overall.yaml").settings
    return [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
        and (key in old or new[key] not in (None, False, defaults.get(key)))
        and (key in old or key not in HASHES)
    ]
