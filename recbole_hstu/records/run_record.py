"""What one run of a study leaves behind: one JSON file a run, the input of tables and plots."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recbole_hstu.evaluation.segments import Segment
from recbole_hstu.records.rank_file import SUFFIX as RANK_SUFFIX
from recbole_hstu.records.rank_file import RankFile, write_rank_file
from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.whole_file import whole_file, write_whole

SUFFIX = ".run.json"
VERSION = 1
OK, FAILED = "ok", "failed"
# The kind of a record's field -> what JSON makes of it.
_KINDS = {"str": str, "int": int, "Mapping": dict, "Sequence": list}


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1, seconds since training began, mean loss, validation.

    `valid` is empty where the epoch was not validated.
    """

    epoch: int
    seconds: float
    train_loss: float
    valid: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One run, finished or failed.

    Attributes:
        model: the model's class name.
        label: the row of a table it belongs to, where one model runs in several variants; the
            model's name if not given.
        config: the run's settings, plain values only.
        status: "ok", or "failed" with the reason in `error`.
        metrics: of the test set, by RecBole's names; segments and ranks are kept beside them.
        history: the epochs in order.
        training_seconds: wall clock of the training epochs, without validation.
        epochs: trained, not the best one's number.
        train_view: what a row of its training was: prefix, window, cloze, user or interaction; ""
            where it is not known.
        parameters: trainable ones.
        converged: whether validation stopped getting better before time or epochs ran out;
            None where that has no meaning (no training, no validation).
        segments: "users" and "items", each a list of segments with sizes and metrics.
        beyond: figures of the recommended lists (`itemcoverage@k`, ...) and `tie_share`.
        rank_file: name of the run's file of ranks in the same folder, or "".
    """

    model: str
    dataset: str
    seed: int
    protocol: str
    label: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    status: str = OK
    error: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    valid_metrics: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[Epoch] = ()
    training_seconds: float = 0.0
    epochs: int = 0
    train_view: str = ""
    parameters: int = 0
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    converged: bool | None = None
    segments: Mapping[str, Sequence[Segment]] = field(default_factory=dict)
    beyond: Mapping[str, float] = field(default_factory=dict)
    rank_file: str = ""

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.model)
        if self.status not in (OK, FAILED):
            raise ValueError(f"status must be {OK!r} or {FAILED!r}, not {self.status!r}")
        if (self.status == FAILED) != bool(self.error):
            raise ValueError(f"a failed run has an error, another has none: {self.error!r}")
        if Path(self.rank_file).name != self.rank_file:
            raise ValueError(f"rank_file lies in the record's folder, not at {self.rank_file!r}")


def record_name(record: RunRecord) -> str:
    """The record's file name without suffix: one for every label, data set, protocol and seed."""
    return quoted_name(record.label, record.dataset, record.protocol, f"seed{record.seed}")


def quoted_name(*parts: str) -> str:
    """Texts as the name of a file that is not hidden; `unquote` gives back each part."""
    name = "+".join(quote(part, safe="") for part in parts)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def write_record(folder: Path | str, record: RunRecord, *, name: str | None = None) -> Path:
    """Write the record in `folder`, whole or not at all; returns the path.

    Args:
        name: of the file, without suffix; `record_name` by default.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written.
        TypeError: a setting is not a plain value.
    """
    path = Path(folder) / f"{name or record_name(record)}{SUFFIX}"
    content = {"version": VERSION, **as_recorded(asdict(record))}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with writing(path):
        return write_whole(path, text)


def write_run(
    folder: Path | str, record: RunRecord, ranks: RankFile | None, *, name: str | None = None
) -> Path:
    """Write the ranks, if there are any, and then the record: a record speaks of a whole run.

    Returns:
        The record's path.
    """
    name = name or record_name(record)
    if ranks is not None:
        record = replace(record, rank_file=f"{name}{RANK_SUFFIX}")
        write_rank_file(Path(folder) / record.rank_file, ranks)
    return write_record(folder, record, name=name)


def keep_before(path: Path, record: RunRecord) -> Path:
    """Move a record that is about to be replaced, and its ranks, into `before/`, under the time at
    which it was written; returns its new place."""
    written = datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d_%H-%M-%S")
    folder = path.parent / "before"
    folder.mkdir(exist_ok=True)
    name = f"{path.name.removesuffix(SUFFIX)}+{written}"
    ranks = path.parent / record.rank_file
    if not record.rank_file or not ranks.is_file():
        kept = write_record(folder, record, name=name)
        path.unlink()
        return kept
    moved = replace(record, rank_file=f"{name}{RANK_SUFFIX}")
    new = folder / moved.rank_file
    with writing(new), whole_file(new) as copy, ranks.open("rb") as source:
        shutil.copyfileobj(source, copy)  # not moved yet: a record would lack its ranks
    kept = write_record(folder, moved, name=name)
    path.unlink()
    ranks.unlink()
    return kept


def read_record(path: Path | str) -> RunRecord:
    """Read back what `write_record` wrote.

    Raises:
        InputError: the file is missing, damaged, of another version or has unknown fields.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable record of a run ({error}); move it away and run it again"
        ) from error
    if not isinstance(content, dict) or content.pop("version", None) != VERSION:
        raise InputError(
            f"{path}: not a record of a run of version {VERSION}; move it away and run it again"
        )
    try:
        return _from_plain(content)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: not a record of a run ({error}); move it away and run it again"
        ) from error


def read_records(folder: Path | str) -> list[RunRecord]:
    """All records of a folder, ordered by file name.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(f"{folder}: no results here (files named *{SUFFIX}): run a study first")
    return [read_record(path) for path in paths]


def by_label(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each label, in the order of its first run."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.label, []).append(record)
    return groups


def as_recorded(value: Any) -> Any:
    """A plain value as records hold it: JSON has no NaN and no infinity, they are written as text,
    which `float` reads."""
    if isinstance(value, Mapping):
        return {key: as_recorded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_recorded(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    return value


def _from_plain(content: dict[str, Any]) -> RunRecord:
    known = {f.name: str(f.type) for f in fields(RunRecord)}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}")
    for key, value in content.items():
        if kind := _KINDS.get(known[key].partition("[")[0]):
            _check(key, value, kind)
    if content.get("converged") is not None:
        _check("converged", content["converged"], bool)
    seconds = content["training_seconds"] = float(content["training_seconds"])
    if not math.isfinite(seconds):
        raise ValueError(f"training_seconds is {seconds}")
    for name in ("metrics", "valid_metrics", "beyond"):
        content[name] = _floats(content.get(name, {}))
    content["history"] = tuple(map(_epoch, content["history"]))
    content["segments"] = {
        kind: tuple(map(_segment, parts)) for kind, parts in content["segments"].items()
    }
    return RunRecord(**content)


def _epoch(plain: dict[str, Any]) -> Epoch:
    number = _check("epoch", plain["epoch"], int)
    seconds, loss = float(plain["seconds"]), float(plain["train_loss"])
    return Epoch(number, seconds, loss, _floats(plain["valid"]))


def _segment(plain: dict[str, Any]) -> Segment:
    name = _check("the name of a segment", plain["name"], str)
    users = _check("the users of a segment", plain["users"], int)
    return Segment(name, users, float(plain["share"]), _floats(plain["metrics"]))


def _check(what: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{what} is {value!r}, not {kind.__name__}")
    return value


def _floats(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
