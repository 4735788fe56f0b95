"""A search in its storage and folder: which trials there are, who works at which, what came out.

Trials lie in an Optuna storage, SQLite by default. All `max_trials` are queued when the search
begins, so that the queue is the budget and a number is never given twice. Who works at a trial
holds a lock on a file in the folder, which ends with the process, however it ends: a running trial
whose lock is free was cut off, and is taken up again under its number with its parameters.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL

from recbole_hstu.studies.run_identity import changed_options
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.whole_file import write_whole
from recbole_hstu.support.files.writable import writing_results
from recbole_hstu.support.secrets import masked
from recbole_hstu.tuning.halving import Halving
from recbole_hstu.tuning.space import Space
from recbole_hstu.tuning.storage import check_connection, open_storage, read_url

ALGORITHMS = ("bayes", "random", "halving", "exhaustive")
STARTUP_TRIALS = 5
"""Random trials before the first that `bayes` chooses."""
_POLL_SECONDS = 1.0
_LOCAL = "trials.db"
_NOTE_FILE = "search.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and how; plain values, so that it travels to other processes.

    Attributes:
        options: those that all trials share.
        max_trials: finished ones, over all invocations; failed ones count.
        early_stop: trials without a better one that end the search, None for never.
        first: the parameters of the first trial, as Optuna names them; None where they are drawn.
        output_file: where RecBole's result text goes, None for the folder.
        metric: the validation metric that decides; `bigger` if more of it is better.
        identity: everything that must be the same when the search goes on.
    """

    model: str | type
    dataset: str
    config_files: tuple[str | Path, ...]
    options: Mapping[str, Any]
    space: Space
    algo: str
    max_trials: int
    first: Mapping[str, Any] | None
    early_stop: int | None
    min_epochs: int
    reduction_factor: int
    epochs: int
    seed: int
    metric: str
    bigger: bool
    folder: Path
    output_file: str | None
    storage: str | None
    study_name: str
    identity: Mapping[str, Any]

    @property
    def storage_name(self) -> str:
        """For messages."""
        return "--storage" if self.storage else str(self.folder / _LOCAL)


@dataclass
class Claim:
    """A trial that this process alone works at, until it is killed or releases `lock`."""

    trial: Trial
    lock: Any
    reported: frozenset[int]

    @property
    def number(self) -> int:
        return self.trial.number


class Search:
    """An open search; any number of processes may have it open.

    Raises:
        InputError: `storage` cannot be opened, the folder holds another search or the storage's
            search lives in another folder.
        STORAGE_ERRORS: the storage cannot be used; so may every method.
    """

    def __init__(self, plan: SearchPlan):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.plan = plan
        self.folder = plan.folder
        url = URL.create("sqlite", database=str(self.folder / _LOCAL))
        if plan.storage:
            url = read_url(plan.storage)
            # One that is refused leaves no folder; a file within the folder has no place before.
            within = self.folder.resolve() in Path(url.database or "").resolve().parents
            if not within and not self.folder.exists():
                check_connection(url, plan.storage_name)
        with writing_results(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ".claims").mkdir(exist_ok=True)
            self.lock = FileLock(self.folder / ".search.lock")
            with self.lock:
                self._open(url)

    def _open(self, url: URL) -> None:
        plan = self.plan
        # Not the path: other machines may see the folder elsewhere.
        shown = masked(url.render_as_string(hide_password=True)) if plan.storage else _LOCAL
        note = self._folder_note(shown)
        storage = open_storage(url, plan.storage_name)
        pruner = (
            Halving(plan.min_epochs, plan.reduction_factor, first_stays=plan.first is not None)
            if plan.algo == "halving"
            else optuna.pruners.NopPruner()
        )
        self.study = optuna.create_study(
            storage=storage,
            study_name=plan.study_name,
            direction="maximize" if plan.bigger else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )
        self._check(note, shown)
        self._queue()

    def _folder_note(self, storage: str) -> dict[str, Any]:
        """The folder's note of the search that it holds, a new one if it holds none."""
        path = self.folder / _NOTE_FILE
        note = {"id": uuid.uuid4().hex, "storage": storage, "study_name": self.plan.study_name}
        if path.exists():
            try:
                kept = json.loads(path.read_bytes())
                note["id"] = kept["id"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}: damaged ({error}); choose another folder") from error
            if kept != note:
                raise InputError(
                    f"{self.folder}: holds the search {kept['study_name']} in {kept['storage']}; "
                    "choose another folder with --results_dir"
                )
        return note

    def _check(self, note: Mapping[str, Any], storage: str) -> None:
        """Whether the study in the storage is the one of this folder, with these settings."""
        kept = self.study.user_attrs
        wanted = json.loads(json.dumps(dict(self.plan.identity)))
        if "settings" not in kept and not self.study.get_trials(deepcopy=False):
            self._remove_checkpoints()
            write_whole(self.folder / _NOTE_FILE, json.dumps(note, indent=1))
            self.study.set_user_attr("folder", note["id"])
            self.study.set_user_attr("settings", wanted)
            return
        if kept.get("folder") != note["id"]:
            raise InputError(
                f"{storage}: the search {self.plan.study_name} there lives in another folder; "
                "share that folder, or choose another --study_name"
            )
        changed = changed_options(kept["settings"], wanted)
        if changed:
            raise InputError(
                f"{self.folder}: holds a search with other settings ({'; '.join(changed)}); "
                "choose another folder with --results_dir"
            )

    def _remove_checkpoints(self) -> None:
        """Of a search whose storage is gone: its trials had other numbers for other options."""
        left = self.folder / "checkpoints"
        if left.exists():
            shutil.rmtree(left)
            logger.warning("%s: of a search whose storage is gone, removed", left)

    def _queue(self) -> None:
        """Queue what is missing of `max_trials`, with parameters where they are known already."""
        there = len(self.study.get_trials(deepcopy=False))
        if not there and self.plan.first is not None:
            self.study.enqueue_trial(dict(self.plan.first))
            there = 1
        for number in range(there, self.plan.max_trials):
            self.study.enqueue_trial(self._parameters(number))

    def _parameters(self, number: int) -> dict[str, Any]:
        """What is known of a trial beforehand; `bayes` chooses most of them later."""
        if self.plan.algo == "exhaustive":
            return self.plan.space.combination(number)
        chosen = self.plan.algo == "bayes" and number >= STARTUP_TRIALS
        return {} if chosen else self._draw(number)

    def _draw(self, number: int) -> dict[str, Any]:
        """Random parameters. All at once and beforehand: a trial that is killed between its first
        parameter and its second would draw another second one."""
        sampler = optuna.samplers.RandomSampler(seed=self._seed(number))
        trial = optuna.create_study(sampler=sampler).ask()
        self.plan.space.suggest(trial)
        return trial.params

    def trials(self) -> list[FrozenTrial]:
        """All trials, as they are now."""
        return self.study.get_trials(deepcopy=False)

    def best(self, trials: list[FrozenTrial] | None = None) -> FrozenTrial | None:
        """The finished trial with the best validation score, of all or of these; of equals, the
        first."""
        sign = -1 if self.plan.bigger else 1
        trials = self.trials() if trials is None else trials
        done = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
        return min(done, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def next(self) -> Claim | None:
        """The next trial to work at, None when the search is over.

        Waits while the last ones are at work elsewhere: they may be killed.
        """
        while True:
            with self.lock:
                left = self.open_trials()
                claim = self._claim(left)
            if claim is not None or not left:
                return claim
            time.sleep(_POLL_SECONDS)

    def open_trials(self) -> list[FrozenTrial]:
        """Those to finish yet: first the running ones, then the queue, each by number."""
        trials = [t for t in self.trials() if t.number < self.plan.max_trials]
        states = [TrialState.RUNNING, *([] if self._stalled(trials) else [TrialState.WAITING])]
        return [t for state in states for t in trials if t.state == state]

    def _stalled(self, trials: list[FrozenTrial]) -> bool:
        best = self.best()
        if self.plan.early_stop is None or best is None:
            return False
        later = [t for t in trials if t.state.is_finished() and t.number > best.number]
        return len(later) >= self.plan.early_stop

    def _claim(self, open_trials: list[FrozenTrial]) -> Claim | None:
        for frozen in open_trials:
            file = self.folder / ".claims" / f"trial-{frozen.number + 1}.lock"
            try:
                lock = FileLock(file).acquire(timeout=0)
            except Timeout:
                continue
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self._seed(frozen.number),
                n_startup_trials=1,
                multivariate=True,
                constant_liar=True,
            )
            if frozen.state == TrialState.WAITING:
                trial = self.study.ask()  # the first of the queue, as `frozen` is
            else:
                trial = Trial(self.study, frozen._trial_id)
            return Claim(trial, lock, frozenset(frozen.intermediate_values))
        return None

    def _seed(self, number: int) -> int:
        """A seed of its own for every trial: a restart draws what would have been drawn."""
        return int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0])
