"""Published tables run again: ours beside the paper's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_hstu.records.run_record import FAILED, RunRecord
from recbole_hstu.records.same_terms import NOT_DECISIVE
from recbole_hstu.reports.comparison_formats import NO_VALUE, cell_texts
from recbole_hstu.reports.comparison_table import DIGITS, Cell, Table, relative_gain
from recbole_hstu.reports.study_table import ReportOptions, study_table, write_tables
from recbole_hstu.reports.text_tables import escape_markdown, markdown_table, terminal_table
from recbole_hstu.studies.compare import check_many_trainings
from recbole_hstu.studies.plan import plan_runs, read_jobs, read_seeds
from recbole_hstu.studies.planned_run import Variant
from recbole_hstu.studies.study import run_study
from recbole_hstu.studies.study_log import study_log
from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.files.whole_file import write_whole
from recbole_hstu.support.secrets import masked
from recbole_hstu.support.yaml_values import comma_separated, load_yaml, merged


@dataclass(frozen=True)
class Published:
    """One data set's part of a paper's table.

    Attributes:
        models: row -> our model, or its `model` and `options`.
        figures: row -> metric -> value; empty for an ablation.
        directions: row -> what the paper says of it, against the first row; empty for a table of
            figures.
    """

    name: str
    dataset: str
    source: str
    options: Mapping[str, Any]
    seeds: Sequence[int]
    models: Mapping[str, Any]
    metrics: Sequence[str]
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    directions: Mapping[str, str] = field(default_factory=dict)


def published(name: str, dataset: str | None) -> Published:
    """What `properties/reproduce.yaml` says of a table and a data set.

    Raises:
        InputError: no such table, or none of this data set.
    """
    known = load_yaml(PROPERTIES / "reproduce.yaml")
    if name not in known:
        raise InputError(f"reproduce {name}: no such table; known are {', '.join(known)}")
    entry = known[name]
    if "directions" in entry:
        return Published(**{**entry, "name": name, "dataset": dataset or entry["dataset"]})
    figures = entry.pop("figures")
    if dataset is None and len(figures) == 1:
        (dataset,) = figures
    if dataset is None or dataset not in figures:
        given = "is missing" if dataset is None else f"{dataset}: {name} has no such data set"
        raise InputError(f"--dataset {given}; known are {', '.join(figures)}")
    rows = {
        row: dict(zip(entry["metrics"], values, strict=True))
        for row, values in figures[dataset].items()
    }
    return Published(name=name, dataset=dataset, figures=rows, **entry)


def reproduce(
    name: str,
    dataset: str | None,
    config_files: Sequence[str | Path],
    options: Mapping[str, Any],
) -> tuple[str, bool]:
    """Run the models of a published table with its settings and print ours beside the paper's.

    It is a study: start it again and it goes on. Options that change what is computed (`epochs`,
    `limit_users`, ...) make it a rehearsal, in a folder of its own, and the table says so.

    Args:
        options: those of the models, and `model` (rows of the table, all by default), `seeds`,
            `results_dir`, `jobs` (runs at a time).

    Returns:
        The table as text, and whether a run failed.

    Raises:
        InputError: bad input; nothing has been trained.
    """
    options = dict(options)
    check_many_trainings(options)
    paper = published(name, dataset)
    seeds = _seeds(paper, options)
    rows = _rows(paper, options.pop("model", None))
    given, jobs = options.pop("results_dir", None), options.pop("jobs", None)
    changed = {key: value for key, value in options.items() if key not in NOT_DECISIVE}
    folder = Path(str(given or f"results/reproduce-{name}-{paper.dataset}"))
    if (changed or config_files) and not given:
        folder = folder.with_name(f"{folder.name}-rehearsal")
    variants = [_variant(row, paper.models[row]) for row in rows]
    shared = merged(paper.options, options)
    with study_log():
        plan = plan_runs(variants, paper.dataset, config_files, shared, seeds)
        records = run_study(plan, folder, read_jobs(jobs, plan))
        table = study_table(records, folder, ReportOptions(order=rows))
        write_tables(table, records, folder / "table")
    lines = _lines(table, paper)
    remarks = [f"{row.label}: {row.remark}" for row in table.rows if row.remark]
    notes = [*_notes(paper, records, changed, config_files), *remarks]
    with writing(folder):
        write_whole(folder / "reproduce.md", _markdown(lines, notes))
    return _text(lines, notes), any(record.status == FAILED for record in records)


def _seeds(paper: Published, options: dict[str, Any]) -> Sequence[int]:
    """The paper's, or those that `seeds` names, which is taken out of the options."""
    if "seed" in options:
        raise InputError(f"--seed={options['seed']}: a table has several; --seeds names others")
    return read_seeds(options.pop("seeds", None)) or paper.seeds


def _variant(row: str, model: Any) -> Variant:
    return Variant(row, model, {}) if isinstance(model, str) else Variant(row, **model)


def _rows(paper: Published, chosen: Any) -> list[str]:
    if chosen is None:
        return list(paper.models)
    rows = comma_separated("model", chosen)
    unknown = [row for row in rows if row not in paper.models]
    if unknown or not rows:
        raise InputError(
            f"--model={chosen}: {paper.name} has the rows {', '.join(paper.models)}; name some of "
            "them"
        )
    return list(dict.fromkeys(rows))


def _lines(table: Table, paper: Published) -> list[list[str]]:
    """The heading, then the lines of every row."""
    rows = {
        row.label: defaultdict(Cell, zip(table.metrics, row.cells, strict=True))
        for row in table.rows
    }
    lines, first = [["", *paper.metrics]], next(iter(paper.models))
    for label, cells in rows.items():
        lines.append([label, *(_shown(cells[metric]) for metric in paper.metrics)])
        if paper.figures:
            lines += _beside_figures(cells, paper.figures[label], paper.metrics)
        elif first in rows and label != first:
            lines.append(_beside_first(cells, rows[first], paper.metrics))
    return lines


def _beside_figures(cells: Mapping, figures: Mapping[str, float], metrics) -> list[list[str]]:
    theirs = [f"{figures[metric]:.{DIGITS}f}" for metric in metrics]
    differences = [_difference(cells[metric], figures[metric]) for metric in metrics]
    return [["  paper", *theirs], ["  difference", *differences]]


def _beside_first(cells: Mapping, first: Mapping, metrics: Sequence[str]) -> list[str]:
    return ["  difference", *(_difference(cells[m], first[m].mean) for m in metrics)]


def _shown(cell: Cell) -> str:
    mean, spread, _ = cell_texts(cell)
    return " ".join([mean, *spread])


def _difference(cell: Cell, other: float | None) -> str:
    gain = relative_gain(cell.mean, other)
    return NO_VALUE if gain is None else f"{gain:+.1f}%"


def _notes(
    paper: Published,
    records: Sequence[RunRecord],
    changed: Mapping[str, Any],
    config_files: Sequence[str | Path],
) -> list[str]:
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(r.seed for r in records))
    epochs = ", ".join(sorted({str(r.epochs) for r in records if r.epochs}))
    trained = {record.label for record in records}
    directed = [row for row in paper.directions if row in trained]
    reported = "last epoch" if records[0].protocol == "paper" else "best epoch on validation"
    notes = [
        f"{paper.dataset}; paper: {paper.source}. Ours: seed {seeds}, {epochs or 'no'} epochs, "
        f"the {reported} reported.",
        *(f"{row}: in the paper {paper.directions[row]}." for row in directed),
    ]
    if changed or config_files:
        given = [f"{key}={value}" for key, value in masked(changed).items()]
        given += [f"config_files={file}" for file in config_files]
        notes.append(f"A rehearsal, not comparable with the paper: {', '.join(given)}.")
    return notes


def _text(lines: list[list[str]], notes: Sequence[str]) -> str:
    shown = terminal_table(lines[0], lines[1:], _alignment(lines))
    return "\n".join([shown, *notes]) + "\n"


def _markdown(lines: list[list[str]], notes: Sequence[str]) -> str:
    escaped = [[escape_markdown(cell.strip()) for cell in line] for line in lines]
    shown = markdown_table(escaped[0], escaped[1:], _alignment(lines))
    return "\n".join([shown, *map(escape_markdown, notes)]) + "\n"


def _alignment(lines: list[list[str]]) -> str:
    return "l" + "r" * (len(lines[0]) - 1)
