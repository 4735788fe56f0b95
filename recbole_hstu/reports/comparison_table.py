"""From the runs of a comparison to the rows of its table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recbole_hstu.evaluation.significance import PairedTest
from recbole_hstu.records.run_record import OK, RunRecord
from recbole_hstu.support.errors import InputError

SMALLER_IS_BETTER = ("averagepopularity", "giniindex", "tie_share")
DIGITS = 4


@dataclass(frozen=True)
class Cell:
    """One metric of one row; None is not known. `gain` is in percent of the baseline.

    `std` is the sample standard deviation over seeds, None for a single seed. `mark` is "better"
    or "worse" where the paired test against the best baseline says so, else "".
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
    baseline: str | None
    legend: tuple[str, ...]


def comparison_table(
    records: Sequence[RunRecord],
    metrics: Sequence[str] | None = None,
    *,
    baseline: str | None = None,
    tests: Mapping[tuple[str, str], PairedTest] | None = None,
    alpha: float = 0.05,
) -> Table:
    """One row a label, in the order of first appearance, over all its seeds.

    Runs that failed do not enter the means; the remark tells of them.

    Args:
        metrics: the columns; every metric of any record, in order of appearance, if not given.
        baseline: the label that gains are counted from; None leaves gains out.
        tests: (label, metric) -> test, from `significance.compare_to_best`.

    Raises:
        InputError: no records, more than one data set or protocol, or an unknown baseline.
    """
    dataset, protocol = _one_setting(records)
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.label, []).append(record)
    if baseline is not None and baseline not in groups:
        raise InputError(f"unknown baseline {baseline!r}: choose among {', '.join(groups)}")
    names = tuple(metrics or dict.fromkeys(name for r in records for name in r.metrics))
    means = {
        (label, name): _mean([r.metrics[name] for r in _finished(runs) if name in r.metrics])
        for label, runs in groups.items()
        for name in names
    }
    best = {name: _best(name, [means[label, name] for label in groups]) for name in names}

    def cell(label: str, name: str) -> Cell:
        mean = means[label, name]
        test = (tests or {}).get((label, name))
        return Cell(
            mean=mean,
            std=_std([r.metrics[name] for r in _finished(groups[label]) if name in r.metrics]),
            gain=_gain(mean, means[baseline, name]) if baseline not in (None, label) else None,
            best=mean is not None and round(mean, DIGITS) == best[name],
            mark=_mark(name, test, alpha),
            p=test.adjusted if test else None,
        )

    rows = tuple(
        _row(label, runs, tuple(cell(label, name) for name in names))
        for label, runs in groups.items()
    )
    return Table(dataset, protocol, names, rows, baseline, _legend(rows, baseline, tests, alpha))


def smaller_is_better(metric: str) -> bool:
    """Whether less of this metric is more, as RecBole has it."""
    return metric.partition("@")[0] in SMALLER_IS_BETTER


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def _one_setting(records: Sequence[RunRecord]) -> tuple[str, str]:
    settings = sorted({(r.dataset, r.protocol) for r in records})
    if len(settings) != 1:
        raise InputError(
            "a table compares runs on one data set under one protocol, not "
            + (", ".join(f"{d} ({p})" for d, p in settings) or "no runs at all")
        )
    return settings[0]


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
    parts = []
    failed = [run for run in runs if run.status != OK]
    if failed:
        seeds = ", ".join(str(run.seed) for run in failed)
        errors = "; ".join(dict.fromkeys(one_line(run.error) for run in failed))
        parts.append(f"failed (seed {seeds}): {errors}")
    late = [str(run.seed) for run in _finished(runs) if run.converged is False]
    if late:
        parts.append(f"not converged in its time (seed {', '.join(late)})")
    return "; ".join(parts)


def _finished(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.status == OK]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _gain(mean: float | None, base: float | None) -> float | None:
    return None if mean is None or not base else 100 * (mean - base) / abs(base)


def _best(name: str, means: Sequence[float | None]) -> float | None:
    """The best mean as it is shown: rows that show the same figure are best together."""
    shown = [round(mean, DIGITS) for mean in means if mean is not None and mean == mean]
    if len(shown) < 2:
        return None
    return min(shown) if smaller_is_better(name) else max(shown)


def _mark(name: str, test: PairedTest | None, alpha: float) -> str:
    if test is None or not test.adjusted < alpha:
        return ""
    return "better" if (test.difference > 0) != smaller_is_better(name) else "worse"


def _legend(
    rows: Sequence[Row],
    baseline: str | None,
    tests: Mapping[tuple[str, str], PairedTest] | None,
    alpha: float,
) -> tuple[str, ...]:
    lines = []
    if any(cell.std is not None for row in rows for cell in row.cells):
        lines.append("Mean ± standard deviation over seeds.")
    if baseline is not None:
        lines.append(f"In brackets: relative gain over {one_line(baseline)}.")
    if tests:
        references = ", ".join(dict.fromkeys(one_line(t.reference) for t in tests.values()))
        lines.append(
            f"† better, ‡ worse than the best baseline ({references}): paired t-test over users, "
            f"Holm's correction for {len(tests)} comparisons, p < {alpha:g}."
        )
    return tuple(lines)
