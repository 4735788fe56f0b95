"""A study: planned runs, some at a time, in a folder that remembers which are finished."""

from __future__ import annotations

import glob
import json
import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock, Timeout
from recbole.utils import ModelType

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.quick_start import run
from recbole_hstu.records.make_record import check_segment_options
from recbole_hstu.records.run_record import (
    FAILED,
    OK,
    SUFFIX,
    RunRecord,
    keep_before,
    read_record,
    record_name,
    write_record,
    write_run,
)
from recbole_hstu.studies.planned_run import PlannedRun
from recbole_hstu.studies.run_identity import HASHES, changed_options, run_identity
from recbole_hstu.studies.side_by_side import on_gpu, side_by_side
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import CannotWrite, InputError, ProcessDied, writing
from recbole_hstu.support.files.whole_file import LONGEST_NAME, write_whole
from recbole_hstu.support.files.writable import check_run_folders, writing_results
from recbole_hstu.support.secrets import masked
from recbole_hstu.training import checkpoint

logger = logging.getLogger(__name__)


def run_study(plan: Sequence[PlannedRun], folder: Path, jobs: int) -> list[RunRecord]:
    """The records of all planned runs, in their order.

    Args:
        jobs: so many runs at a time, each in a process of its own, on a GPU of its own.

    A run whose record lies in `folder` with the same configuration is not run again; one that was
    cut off goes on from its last epoch; one that fails is recorded as failed.

    Raises:
        InputError: the data cannot be used at all, or are others for another model; a label is too
            long, the folder cannot be written, or another command is at work in it. Nothing has
            been trained then.
    """
    for planned in plan:
        name = f"{_stem(planned)}.started.json"
        if len(name) > LONGEST_NAME:
            raise InputError(
                f"{planned.label}: label, data set and protocol make a name of {len(name)} "
                f"characters, as it is quoted for a file; {LONGEST_NAME} fit, take a shorter label"
            )
    pending = [p for p in plan if _finished(p, folder) is None]
    if pending:
        check_run_folders(pending[0].config)
        check_segment_options(pending[0].config)
        make_loaders(pending[0].config, load_dataset(pending[0].config))
        _check_same_interactions(plan)
    with _alone(folder):
        _say_what_else_is_there(plan, folder)
        ended = _run_side_by_side(plan, folder, jobs) if jobs > 1 else [False] * len(plan)
        return [
            _record_of(planned, folder)
            if ended[place - 1]
            else _run_once(planned, folder, f"run {place} of {len(plan)}")
            for place, planned in enumerate(plan, start=1)
        ]


def _check_same_interactions(plan: Sequence[PlannedRun]) -> None:
    """Models that read other files of a data set have the same interactions of it, but for those
    of a knowledge graph: RecBole leaves out what a file of items or users does not know."""
    graphless = [p for p in plan if p.config.model_class.type != ModelType.KNOWLEDGE]
    read = {str(p.config["load_col"]): p for p in reversed(graphless)}
    if len(read) < 2:
        return
    counts = {p.label: len(load_dataset(p.config).inter_feat) for p in read.values()}
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] != counts[least]:
        raise InputError(
            f"{least} has {counts[least]:,} of {most}'s {counts[most]:,} interactions, by what the "
            "files of its load_col lack: no rows of one table; add these items or users to the "
            "files, or set --filter_inter_by_user_or_item=False"
        )


def _run_side_by_side(plan: Sequence[PlannedRun], folder: Path, jobs: int) -> list[bool]:
    """Which runs have come to their end; of a process that was killed, one has not."""
    context = multiprocessing.get_context("spawn")
    taken, ended = context.Value("i", 0), context.RawArray("b", len(plan))

    def arguments(gpu: str | None) -> tuple:
        own = [replace(planned, options=on_gpu(planned.options, gpu)) for planned in plan]
        return own, folder, taken, ended

    try:
        side_by_side(jobs, _take_runs, arguments)
    except KeyboardInterrupt:
        logger.info("interrupted; the same command again goes on")
        raise
    return [bool(end) for end in ended]


def _take_runs(plan: Sequence[PlannedRun], folder: Path, taken: Any, ended: Any) -> None:
    while True:
        with taken.get_lock():
            taken.value += 1
            place = taken.value
        if place > len(plan):
            return
        _run_once(plan[place - 1], folder, f"run {place} of {len(plan)}")
        ended[place - 1] = True


def _say_what_else_is_there(plan: Sequence[PlannedRun], folder: Path) -> None:
    """A study of fewer models has a table of these alone; the others are not lost."""
    planned = {_stem(one) for one in plan}
    names = [path.name.removesuffix(SUFFIX) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    of_studies = [name for name in names if name.count("+") == 3]  # others were put there
    parts = [[unquote(part) for part in n.split("+")] for n in of_studies if n not in planned]
    others = [f"{label} ({seed})" for label, *_, seed in parts]
    if others:
        logger.info(
            "%s also holds runs of %s; %s %s makes the table of all",
            *(folder, ", ".join(others), command("report"), folder),
        )


def _stem(planned: PlannedRun) -> str:
    return record_name(_record(planned))


def _record_of(planned: PlannedRun, folder: Path) -> RunRecord:
    return read_record(folder / f"{_stem(planned)}{SUFFIX}")


def _record(planned: PlannedRun, **fields: Any) -> RunRecord:
    return RunRecord(
        model=planned.model,
        label=planned.label,
        dataset=planned.dataset,
        seed=planned.seed,
        protocol=planned.config["protocol"],
        **fields,
    )


def _finished(planned: PlannedRun, folder: Path) -> RunRecord | None:
    """The run's record, if it ended well with the very settings that are wanted now."""
    path = folder / f"{_stem(planned)}{SUFFIX}"
    if not path.exists():
        return None
    record = read_record(path)
    if record.status != OK or (record.rank_file and not (folder / record.rank_file).is_file()):
        return None
    return None if changed_options(record.config, run_identity(planned)) else record


def _run_once(planned: PlannedRun, folder: Path, place: str) -> RunRecord:
    what = f"{place}: {planned.label}, seed {planned.seed}"
    stem = _stem(planned)
    mark = folder / f"{stem}.started.json"  # older than the run's checkpoints, gone at its end
    kept = _finished(planned, folder)
    if kept is not None:
        logger.info("%s: finished before", what)
        mark.unlink(missing_ok=True)
        return kept
    planned.check_files()
    identity = run_identity(planned)  # of the data as the run reads them, whatever becomes of them
    _log_why_again(folder / f"{stem}{SUFFIX}", identity, what)
    options = dict(planned.options)
    last = _cut_off(planned, identity, mark)
    if last is not None:
        logger.info("%s: goes on from %s", what, last)
        options["resume"] = str(last)
    else:
        logger.info("%s", what)
        with writing(mark):
            write_whole(mark, json.dumps(identity))
    try:
        result = run(
            *(planned.config.reference, planned.dataset, planned.config_files, options),
            goes_on_by="the same command again goes on",
        )
    except ProcessDied:
        raise  # no fault of this run: the next start goes on with it
    except CannotWrite as error:  # nor is this
        raise InputError(f"{what}: {error}; mend it, and the same command again goes on") from error
    except Exception as error:
        known = isinstance(error, InputError)
        logger.error("%s failed: %s", what, error, exc_info=None if known else error)
        record = _record(
            planned,
            config=identity,
            status=FAILED,
            error=masked(f"{type(error).__name__}: {error}"),
        )
        write_record(folder, record)
    else:
        record = replace(result["record"], label=planned.label, config=identity)
        record = read_record(write_run(folder, record, result["ranks"]))
    mark.unlink(missing_ok=True)
    return record


def _log_why_again(path: Path, wanted: Mapping[str, Any], what: str) -> None:
    if not path.exists():
        return
    old = read_record(path)
    changed = changed_options(old.config, wanted)
    if old.status == FAILED:
        logger.info("%s: failed before (%s), tried again", what, old.error)
    elif changed:
        kept = keep_before(path, old)
        logger.warning(
            *("%s: run again, its settings changed: %s; the run before is kept as %s",),
            *(what, "; ".join(changed), kept),
        )
    else:
        kept = keep_before(path, old)
        logger.warning(
            "%s: run again, its file of ranks is gone; its record is kept as %s", what, kept
        )


def _cut_off(planned: PlannedRun, wanted: Mapping[str, Any], mark: Path) -> Path | None:
    """The last state of this very run, if it was begun in this study and then cut off."""
    try:
        if json.loads(mark.read_bytes()) != json.loads(json.dumps(wanted)):
            return None
    except (OSError, ValueError):
        return None
    began = mark.stat().st_mtime_ns
    name = "-".join(glob.escape(part) for part in (planned.model, planned.dataset))
    files = Path(planned.config["checkpoint_dir"]).glob(f"{name}-*-{planned.seed}.last.pth")
    candidates = [(file.stat().st_mtime_ns, file) for file in files]
    for changed, file in sorted(candidates, reverse=True):
        if changed >= began and _is_checkpoint_of(file, wanted):
            return file
    return None


def _is_checkpoint_of(file: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        plain = checkpoint.load_checkpoint(file, mapped=True, with_table=False)["config"]
    except InputError:
        return False
    return all(plain.get(key) == value for key, value in wanted.items() if key not in HASHES)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other commands; the lock ends with the process, however it ends."""
    with writing_results(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / ".lock", timeout=0).acquire()
        except Timeout as error:  # an OSError, too
            raise InputError(
                f"{folder}: another command is at work here; wait for it, or choose another "
                "folder with --results_dir"
            ) from error
    with lock:
        yield
