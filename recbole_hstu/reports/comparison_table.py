"""From the runs of a comparison to the rows of its table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_hstu.evaluation.metrics import tested_as
from recbole_hstu.evaluation.significance import PairedTest
from recbole_hstu.records.run_record import OK, RunRecord, by_label
from recbole_hstu.reports.unlike_terms import unlike_terms

SMALLER_IS_BETTER = ("averagepopularity", "giniindex", "tie_share")
DIGITS = 4
ALPHA = 0.05
MANY_TIES = 0.9
"""The share of tied targets from which on a row is marked: equal scores are ranked by item id."""


@dataclass(frozen=True)
class Cell:
    """One metric of one row; None is not known, as where a finished run of the row lacks it.

    `gain` is in percent of the baseline. `std` is the sample standard deviation over seeds, None
    for a single seed. `mark` is "better" or "worse" where the paired test against the best baseline
    says so, else "".
    """

    mean: float | None = None
    std: float | None = None
    gain: float | None = None
    best: bool = False
    mark: str = ""
    p: float | None = None


@dataclass(frozen=True)
class Row:
    """One model: its cells in the order of the table's metrics, and what they cost (means)."""

    label: str
    seeds: int
    cells: tuple[Cell, ...]
    seconds: float | None
    epochs: float | None
    parameters: float | None
    remark: str


@dataclass(frozen=True)
class Table:
    """A comparison on one data set under one protocol."""

    dataset: str
    protocol: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    legend: tuple[str, ...]


def comparison_table(
    records: Sequence[RunRecord],
    metrics: Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    tests: Mapping[tuple[str, str], PairedTest] | None = None,
) -> Table:
    """One row a label, in the order of first appearance, over all its seeds.

    Runs that failed do not enter the means; the remark tells of them.

    Args:
        records: at least one, all of one data set and protocol.
        metrics: the columns; every metric of any record, in order of appearance, if not given.
        baseline: the label among them that gains are counted from; None leaves gains out.
        tests: (label, metric) -> test, from `significance.paired_tests_against_best`.
    """
    runs = by_label(records)
    names = tuple(metrics or dict.fromkeys(name for r in records for name in r.metrics))
    columns = [_column(name, runs, baseline, tests or {}) for name in names]
    rows = tuple(
        _row(label, labelled, tuple(column[label] for column in columns))
        for label, labelled in runs.items()
    )
    shown = {one_line(label): labelled for label, labelled in runs.items()}
    legend = (*_legend(rows, baseline, tests), *unlike_terms(shown))
    return Table(records[0].dataset, records[0].protocol, names, rows, legend)


def _column(
    metric: str,
    runs: Mapping[str, Sequence[RunRecord]],
    baseline: str | None,
    tests: Mapping[tuple[str, str], PairedTest],
) -> dict[str, Cell]:
    """A metric's cell for each label."""
    values = {label: _values(metric, _finished(labelled)) for label, labelled in runs.items()}
    means = {label: _mean(found) for label, found in values.items()}
    orders = {label: tie_order(labelled) for label, labelled in runs.items()}
    cells = {}
    for label, mean in means.items():
        # The order of ties decides the targets: rows compare within an order.
        alike = [other for other in means if orders[other] == orders[label]]
        best = _best(metric, [means[other] for other in alike])
        test = tests.get((label, metric))
        cells[label] = Cell(
            mean=mean,
            std=_std(values[label]),
            gain=relative_gain(mean, means[baseline])
            if baseline in alike and baseline != label
            else None,
            best=mean is not None and round(mean, DIGITS) == best,
            mark=_mark(metric, test),
            p=test.adjusted if test else None,
        )
    return cells


def _values(metric: str, runs: Sequence[RunRecord]) -> list[float]:
    """Of all runs or none: a mean of some would stand beside the number of all."""
    known = all(metric in run.metrics for run in runs)
    return [run.metrics[metric] for run in runs] if known else []


def tie_order(runs: Sequence[RunRecord]) -> str:
    """In which order the runs of a row had the events of a user at the same time."""
    return runs[0].config.get("tie_order", "file")  # releases without the option had the file's


def smaller_is_better(metric: str) -> bool:
    """Whether less of this metric is more, as RecBole has it."""
    return metric.partition("@")[0] in SMALLER_IS_BETTER


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def _row(label: str, runs: Sequence[RunRecord], cells: tuple[Cell, ...]) -> Row:
    finished = _finished(runs)
    return Row(
        label=one_line(label),
        seeds=len(finished),
        cells=cells,
        seconds=_mean([r.training_seconds for r in finished]),
        epochs=_mean([r.epochs for r in finished]),
        parameters=_mean([r.parameters for r in finished]),
        remark=_remark(runs),
    )


def _remark(runs: Sequence[RunRecord]) -> str:
    """What a reader of the row has to know, also where the row is pasted elsewhere."""
    finished = _finished(runs)
    parts = [_failures([run for run in runs if run.status != OK])]
    for option, what in (
        ("limit_users", "rehearsal on a part of the users"),
        ("eval_users", "evaluated on a sample of the users"),
    ):
        part = ", ".join(
            dict.fromkeys(f"{option}={n}" for r in finished if (n := r.config.get(option)))
        )
        parts.append(f"{what}: {part}" if part else "")
    ended: dict[str, list[str]] = {}
    for run in finished:
        if run.converged is False:
            ended.setdefault(_what_ended(run), []).append(str(run.seed))
    parts += [f"{why} (seed {', '.join(seeds)})" for why, seeds in ended.items()]
    ties = _mean([run.beyond["tie_share"] for run in finished if "tie_share" in run.beyond])
    if ties is not None and ties >= MANY_TIES:
        parts.append(f"{ties:.0%} of the targets share their score with other items")
    return "; ".join(filter(None, parts))


def _failures(failed: Sequence[RunRecord]) -> str:
    if not failed:
        return ""
    seeds = ", ".join(str(run.seed) for run in failed)
    errors = "; ".join(dict.fromkeys(one_line(run.error) for run in failed))
    return f"failed (seed {seeds}): {errors}"


def _what_ended(run: RunRecord) -> str:
    """What ended a training whose validation was still getting better."""
    limit = run.config.get("epochs")
    if limit is not None and run.epochs >= limit:
        return f"stopped at epochs={limit}, not converged"
    in_time = " in its time" if run.config.get("train_seconds") is not None else ""
    return f"not converged{in_time}"


def _finished(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.status == OK]


def _mean(values: Sequence[float]) -> float | None:
    if not all(map(math.isfinite, values)):
        return sum(values)  # NaN, or the infinity; statistics refuses one against the other
    return statistics.fmean(values) if values else None


def _std(values: Sequence[float]) -> float | None:
    if not all(map(math.isfinite, values)):
        return math.nan if len(values) > 1 else None
    return statistics.stdev(values) if len(values) > 1 else None


def relative_gain(mean: float | None, base: float | None) -> float | None:
    """In percent of the base; None where one of them is not known or the base is 0."""
    return None if mean is None or not base else 100 * (mean - base) / abs(base)


def _best(name: str, means: Sequence[float | None]) -> float | None:
    """The best mean as it is shown: rows that show the same figure are best together."""
    shown = [round(mean, DIGITS) for mean in means if mean is not None and mean == mean]
    if len(shown) < 2:
        return None
    return min(shown) if smaller_is_better(name) else max(shown)


def _mark(name: str, test: PairedTest | None) -> str:
    if test is None or not test.adjusted < ALPHA:
        return ""
    return "better" if (test.difference > 0) != smaller_is_better(name) else "worse"


def _legend(
    rows: Sequence[Row],
    baseline: str | None,
    tests: Mapping[tuple[str, str], PairedTest] | None,
) -> tuple[str, ...]:
    lines = []
    if any(cell.std is not None for row in rows for cell in row.cells):
        lines.append("Mean ± standard deviation over seeds.")
    if baseline is not None:
        lines.append(f"In brackets: relative gain over {one_line(baseline)}.")
    if tests:
        references = ", ".join(dict.fromkeys(one_line(t.reference) for t in tests.values()))
        n_tests = len({(label, tested_as(metric)) for label, metric in tests})
        lines.append(
            f"† better, ‡ worse than the best baseline on the test ({references}): paired t-test "
            f"over users, Holm's correction for {n_tests} comparisons, p < {ALPHA:g}."
        )
    return tuple(lines)
