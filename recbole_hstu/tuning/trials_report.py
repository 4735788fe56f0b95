"""What a search leaves behind: the best options, a table of trials, RecBole's text, plots."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from recbole.utils import dict2str

from recbole_hstu.records.same_terms import NOT_DECISIVE
from recbole_hstu.reports import plots
from recbole_hstu.reports.text_tables import (
    csv_table,
    escape_markdown,
    markdown_table,
    terminal_table,
)
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError, in_a_line, writing
from recbole_hstu.support.files.whole_file import write_whole
from recbole_hstu.support.plain_values import plain_value
from recbole_hstu.support.secrets import masked
from recbole_hstu.support.yaml_values import merge_yaml, merged
from recbole_hstu.tuning.search import Search
from recbole_hstu.tuning.trials_plots import importance_bars, parallel_coordinates

logger = logging.getLogger(__name__)

_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def write_results(search: Search) -> str:
    """Write `best.yaml`, `trials.csv`, `trials.md` and RecBole's `hyper.result`.

    Returns:
        The table and the summary as text.

    Raises:
        CannotWrite: the disk is full, or a folder cannot be written.
    """
    trials = [trial for trial in search.trials() if trial.state in _STATES]
    best = search.best()
    summary = _summary(search, trials, best)
    rows = [_row(search, trial) for trial in trials]
    names = ["trial", "state", search.plan.metric, "epochs"]
    names += [parameter.name for parameter in search.plan.space.parameters] + ["remark"]
    files = {
        search.folder / "trials.csv": csv_table(names, rows),
        search.folder / "trials.md": _markdown(names, rows, best, summary),
        Path(search.plan.output_file or search.folder / "hyper.result"): _recbole(search, trials),
    }
    if best is not None:
        files[search.folder / "best.yaml"] = _best(search, best, summary)
    for path, content in files.items():
        with writing(path):
            write_whole(path, content)
    return _text(names, rows, summary)


def epochs_of(trial: FrozenTrial) -> int:
    """Epochs that a trial was trained, as far as they were validated."""
    return trial.user_attrs.get("epochs") or max(trial.intermediate_values, default=0)


def params_of(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """The options of a trial, as its model got them."""
    known = [p for p in search.plan.space.parameters if p.name in trial.params]
    fixed = optuna.trial.FixedTrial(trial.params)
    return {parameter.name: parameter.suggest(fixed) for parameter in known}


def _row(search: Search, trial: FrozenTrial) -> list[Any]:
    values = list(trial.intermediate_values.values())
    last = values[-1] if values and trial.state == TrialState.PRUNED else None
    score = trial.value if trial.state == TrialState.COMPLETE else last
    params = params_of(search, trial)
    cells = [params.get(parameter.name) for parameter in search.plan.space.parameters]
    state = _STATES[trial.state]
    error = in_a_line(trial.user_attrs.get("error", ""))
    return [trial.number + 1, state, score, epochs_of(trial), *cells, error]


def _summary(search: Search, trials: list[FrozenTrial], best: FrozenTrial | None) -> str:
    states = [_STATES[trial.state] for trial in trials]
    counts = [f"{states.count(s)} {s}" for s in dict.fromkeys(_STATES.values()) if s in states]
    plan = search.plan
    told = ", ".join(counts)
    if len(trials) > plan.max_trials:  # a search before asked for more
        text = f"{len(trials)} trials ({told}; {plan.max_trials} asked for, all count)"
    else:
        text = f"{len(trials)} of {plan.max_trials} trials ({told})"
    text += f", {sum(map(epochs_of, trials))} epochs"
    if best is None:
        return f"{text}; none has come to its end"
    text += f"; best {plan.metric} on the validation set {best.value:.6f}"
    return f"{text} (trial {best.number + 1})"


def _best(search: Search, best: FrozenTrial, summary: str) -> str:
    """The best options with all others that were given: it needs no other file."""
    plan = search.plan
    model = plan.model if isinstance(plan.model, str) else plan.model.__name__
    options: dict[str, Any] = {"model": model, "dataset": plan.dataset}
    options = merged(options, merge_yaml(plan.config_files), plan.options)
    kept = ("data_path", "text_features_file")
    options = {k: v for k, v in options.items() if k not in NOT_DECISIVE or k in kept}
    options |= params_of(search, best)
    options = plain_value(masked(options))
    listed = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    file = shlex.quote(f"--config_files={search.folder / 'best.yaml'}")
    return f"# {summary}\n# {command('run')} {file}\n{listed}"


def _recbole(search: Search, trials: list[FrozenTrial]) -> str:
    """The layout of RecBole's `export_result`; the test set stays unseen."""
    parts = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            params = ", ".join(f"{k}:{v}" for k, v in params_of(search, trial).items())
            valid = dict2str(trial.user_attrs["valid"])
            parts.append(f"{params}\nValid result:\n{valid}\nTest result:\nnot tested\n\n")
    return "".join(parts)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "" if value == "" else "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _markdown(
    names: list[str], rows: list[list[Any]], best: FrozenTrial | None, summary: str
) -> str:
    shown = []
    for row in rows:
        cells = [escape_markdown(_shown(value)) for value in row]
        bold = best is not None and row[0] == best.number + 1
        shown.append([f"**{cell}**" if bold and cell else cell for cell in cells])
    return f"{markdown_table(names, shown)}\n{escape_markdown(summary)}\n"


def _text(names: list[str], rows: list[list[Any]], summary: str) -> str:
    shown = terminal_table(names, [[_shown(value) for value in row] for row in rows])
    return f"{shown}\n{summary}\n"


def plot(search: Search) -> None:
    """Parallel coordinates and importances as PNG and SVG; the log says why one is left out."""
    trials = [t for t in search.trials() if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    for name, least, draw in (("parallel", 1, _parallel), ("importance", 2, _importance)):
        try:
            if len(finished) < least:
                raise InputError(f"{len(finished)} finished trials, it takes {least}")
            path = plots.save(draw(search, trials), search.folder / name)[0]
        except (ValueError, RuntimeError) as error:  # of fANOVA: all scores are equal
            logger.info("The plot %s is left out: %s", name, error)
        else:
            logger.info("plot: %s", path)


def _parallel(search: Search, trials: list[FrozenTrial]) -> Any:
    options_of = [(trial, params_of(search, trial)) for trial in trials]
    return parallel_coordinates(
        search.plan.space.parameters,
        [(params, t.values[0]) for t, params in options_of if t.state == TrialState.COMPLETE],
        [params for t, params in options_of if t.state == TrialState.PRUNED],
        search.plan.metric,
        bigger=search.plan.bigger,
    )


def _importance(search: Search, _: list[FrozenTrial]) -> Any:
    evaluator = FanovaImportanceEvaluator(seed=search.plan.seed)
    found = get_param_importances(search.study, evaluator=evaluator)
    return importance_bars(found, search.plan.metric)
