"""Which runs are the same: the settings that decide an outcome, and the content of the data."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_hstu.config.properties import PROPERTIES, settings_file
from recbole_hstu.data.files.semantic_id_file import semantic_ids_path
from recbole_hstu.records.same_terms import decisive_options
from recbole_hstu.studies.plan import PlannedRun


def run_identity(planned: PlannedRun) -> dict[str, Any]:
    """The settings of a run, and a hash of the files that it reads."""
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
    if config["queries"]:
        files.append(Path(config["queries"]))
    stats = [(file, file.stat()) for file in files if file.is_file()]
    wanted["data_hash"] = _hash(tuple((f, s.st_mtime_ns, s.st_size) for f, s in stats))
    return wanted


@cache
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, _, _ in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that changed; one that an older release did not have counts if it is set."""
    defaults = settings_file(PROPERTIES / "overall.yaml").settings
    return [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
        and (key in old or new[key] not in (None, False, defaults.get(key)))
    ]
