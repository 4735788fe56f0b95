"""`recbole-hstu export`: one folder with all that serving a model elsewhere needs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from recbole_hstu.config.checkpoint_settings import changed_settings
from recbole_hstu.records.run_record import RunRecord, as_recorded, read_record
from recbole_hstu.serving.export.model_card import model_card
from recbole_hstu.serving.export.programs import Programs
from recbole_hstu.serving.new_items import check_new_items, new_items
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.commands.command_options import known_options
from recbole_hstu.support.errors import InputError, packages_needed, writing
from recbole_hstu.support.files.whole_file import whole_folder
from recbole_hstu.support.yaml_values import comma_separated

# What a bundle may hold, and the packages of extras that write it.
FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "torch": (),
    "parquet": (),
    "faiss": ("faiss",),
}
_OPTIONS = ("out", "formats", "record", "licence", "new_items", "stand_in", "text_features_file")


def export(checkpoint: str | Path, options: Mapping[str, Any]) -> str:
    """Write the bundle of a checkpoint; see `recbole-hstu export --help`.

    Returns:
        One line about what was written.

    Raises:
        InputError: bad input, a model that cannot be exported, a package that is missing; then
            there is no folder.
    """
    options = known_options(options, _OPTIONS, _OPTIONS)
    out, formats = _checked(options)
    rec = Recommender.load(checkpoint, text_features_file=options.get("text_features_file"))
    if "new_items" in options:
        rec.add_items(*new_items(options))
    record = _record(options["record"], rec) if "record" in options else None
    programs = Programs(rec)
    with writing(out), whole_folder(out) as folder:
        _write(folder, programs, formats)
        config, tokens = public_config(rec), rec.saved.item_tokens
        _write_json(folder / "config.json", config)
        _write_json(folder / "item_tokens.json", tokens)
        card = model_card(programs, formats, config, record, options.get("licence"))
        (folder / "README.md").write_text(card, encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    return f"{out}: {', '.join(formats)} of {len(tokens) - 1:,} items, {size / 2**20:.1f} MiB\n"


def public_config(rec: Recommender) -> dict[str, Any]:
    """The options of the run; of a path on this machine its last part alone."""
    plain = rec.saved.state["config"]
    return {key: _last_part(plain[key]) for key in sorted(plain)}


def _last_part(value: Any) -> Any:
    is_place = isinstance(value, str) and Path(value).is_absolute()
    return Path(value).name if is_place else value


def _write(folder: Path, programs: Programs, formats: list[str]) -> None:
    items = programs.module.items.detach().numpy()[1:]
    if "onnx" in formats:
        programs.write_onnx(folder / "model.onnx")
    if "torch" in formats:
        programs.write_torch(folder / "model.pt2")
    if "parquet" in formats:
        _write_parquet(folder / "items.parquet", programs.rec.saved.item_tokens[1:], items)
    if "faiss" in formats:
        _write_faiss(folder / "items.faiss", items)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def _write_parquet(path: Path, tokens: list[str], vectors: np.ndarray) -> None:
    flat = pyarrow.array(vectors.ravel())
    columns = {
        "id": pyarrow.array(np.arange(1, len(tokens) + 1)),
        "item": pyarrow.array(tokens),
        "vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _write_faiss(path: Path, vectors: np.ndarray) -> None:
    """An exact index of inner products; a search gives item ids."""
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(np.ascontiguousarray(vectors), np.arange(1, len(vectors) + 1))
    faiss.write_index(index, str(path))


def _checked(options: Mapping[str, Any]) -> tuple[Path, list[str]]:
    out = options.get("out")
    if out is None:
        raise InputError("--out is missing; name a folder that is not there yet")
    check_new_items(options)
    if Path(out).exists():
        raise InputError(f"--out={out}: is there; name a folder that is not")
    formats = comma_separated("formats", options.get("formats", list(FORMATS)))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"--formats: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    for name in formats:
        with packages_needed(f"--formats: {name}"):
            for package in FORMATS[name]:
                importlib.import_module(package)
    return Path(out), formats


def _record(path: str, rec: Recommender) -> RunRecord:
    """The record of the run that wrote the checkpoint."""
    try:
        record, config = read_record(path), rec.saved.config
    except InputError as error:
        raise InputError(
            f"--record={path}: is no .run.json of this release; name that of the checkpoint's run"
        ) from error
    for key in ("model", "dataset", "seed", "protocol"):
        ours, its = "" if config[key] is None else config[key], getattr(record, key)
        if ours != its:
            raise InputError(
                f"--record={path}: is of {key} {its}, and the checkpoint of {ours}; name its own"
            )
    _check_settings(path, record, rec.saved.state)
    return record


def _check_settings(path: str, record: RunRecord, state: Mapping[str, Any]) -> None:
    """Whether a run of this record's settings and validation has written a checkpoint."""
    ours, its = as_recorded(state["config"]), record.config
    name = str(ours["valid_metric"]).lower()
    best, found = state["best_valid_score"], record.valid_metrics.get(name)
    changed = changed_settings(ours, its)
    if found != best:  # a resumed run may have another one, and the best epoch of before
        changed += [key for key in ("epochs", "train_seconds") if ours[key] != its.get(key)]
    if changed:
        key = changed[0]
        raise InputError(
            f"--record={path}: is of a run with {key} {its.get(key)}, and the checkpoint of one "
            f"with {ours[key]}; name its own"
        )
    if found not in (None, best):
        raise InputError(
            f"--record={path}: is of a run with {name} {found:g} on validation, and the checkpoint "
            f"has {best:g}; name its own"
        )
