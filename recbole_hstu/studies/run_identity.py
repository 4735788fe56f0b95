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
from recbole_hstu.studies.plan import PlannedRun

# Where things lie and how they are shown: a run with other values here is the same run. The data
# and the text vectors enter by their hash.
NOT_DECISIVE = frozenset(
    {
        *("device", "use_gpu", "gpu_id", "worker", "nproc", "max_restarts", "world_size"),
        *("local_rank", "ip", "port", "offset", "single_spec"),
        *("data_path", "output_path", "checkpoint_dir", "resume", "eval_batch_size"),
        "prepared",
        *("config_files", "show_progress", "verbose", "state", "log_wandb", "wandb_project"),
        *("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
        *("text_features_file", "text_device", "text_batch_size", "text_memory"),
    }
)


def decisive_options(plain: Mapping[str, Any], *, text: bool) -> dict[str, Any]:
    """What of a plain configuration decides the outcome of a run.

    Args:
        text: whether the model reads item text, so that the text settings count.
    """
    return {
        key: value
        for key, value in plain.items()
        if key not in NOT_DECISIVE and (text or not key.startswith(("text_", "item_text")))
    }


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
