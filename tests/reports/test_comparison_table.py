"""The comparison's table: its figures by hand, and every format read back."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_study import failed_run

from recbole_hstu.evaluation.significance import PairedTest
from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.reports.comparison_formats import (
    escape_latex,
    to_csv,
    to_latex,
    to_markdown,
    to_text,
)
from recbole_hstu.reports.comparison_table import comparison_table
from recbole_hstu.reports.text_tables import escape_markdown


def run(label, seed, **metrics):
    metrics = {name.replace("_", "@"): value for name, value in metrics.items()}
    return RunRecord(
        label, "toys", seed, "paper", metrics=metrics, training_seconds=90.0 + seed, epochs=7
    )


RECORDS = [
    run("SASRec", 1, hit_10=0.20, giniindex_10=0.9),
    run("HSTU", 1, hit_10=0.31, giniindex_10=0.8),
    run("SASRec", 2, hit_10=0.24, giniindex_10=0.7),
    run("HSTU", 2, hit_10=0.33, giniindex_10=0.9),
    run("LIS", 1, hit_10=0.11),
    failed_run("HSTU", 3, "toys", "out of\nmemory"),
]
RECORDS[-1] = RunRecord(**(RECORDS[-1].__dict__ | {"protocol": "paper"}))


def rows_of(table):
    return {row.label: row for row in table.rows}


def test_figures_by_hand():
    table = comparison_table(RECORDS, baseline="SASRec")
    assert table.metrics == ("hit@10", "giniindex@10")
    assert [row.label for row in table.rows] == ["SASRec", "HSTU", "LIS"]
    rows = rows_of(table)
    hit, gini = rows["HSTU"].cells
    assert (hit.mean, hit.std) == pytest.approx((0.32, statistics.stdev([0.31, 0.33])))
    assert hit.gain == pytest.approx(100 * (0.32 - 0.22) / 0.22)
    assert rows["SASRec"].cells[0].gain is None
    assert hit.best
    assert not gini.best
    assert rows["SASRec"].cells[1].best  # less of giniindex is better
    assert rows["LIS"].cells[0].std is None  # one seed has no spread, not a spread of 0
    assert rows["LIS"].cells[1].mean is None
    assert (rows["HSTU"].seeds, rows["HSTU"].seconds, rows["HSTU"].epochs) == (2, 91.5, 7)
    assert rows["HSTU"].remark == "failed (seed 3): out of memory"


def test_figures_that_are_no_numbers_have_no_spread():
    for values in ((math.nan, 0.2), (math.inf, 0.2), (math.inf, -math.inf)):
        records = [run("A", seed, hit_10=value) for seed, value in enumerate(values)]
        (cell,) = comparison_table(records).rows[0].cells
        assert math.isnan(cell.std)
        assert not math.isfinite(cell.mean)
        assert "A" in to_text(comparison_table(records, baseline="A"))


def test_a_figure_is_of_all_seeds_of_its_row():
    records = [run("A", 1, hit_10=0.2, mrr=0.1), run("A", 2, hit_10=0.4), RECORDS[-1]]
    hit, mrr = comparison_table(records).rows[0].cells
    assert (hit.mean, mrr.mean) == (pytest.approx(0.3), None)


def test_rows_that_show_the_same_figure_are_best_together():
    table = comparison_table([run("A", 1, mrr=0.300041), run("B", 1, mrr=0.300049)])
    assert [row.cells[0].best for row in table.rows] == [True, True]
    lonely = comparison_table([run("A", 1, mrr=0.3)])
    assert not lonely.rows[0].cells[0].best


def test_marks():
    tests = {
        ("HSTU", "hit@10"): PairedTest(0.1, 0.05, 0.15, 0.001, 0.004, "SASRec"),
        ("HSTU", "giniindex@10"): PairedTest(0.1, 0.05, 0.15, 0.001, 0.004, "SASRec"),
        ("LIS", "hit@10"): PairedTest(-0.1, -0.2, 0.01, 0.01, 0.05, "SASRec"),
    }
    table = comparison_table(RECORDS, tests=tests)
    rows = rows_of(table)
    assert [c.mark for c in rows["HSTU"].cells] == ["better", "worse"]
    assert rows["LIS"].cells[0].mark == ""  # 0.05 is not below 0.05
    assert "3 comparisons" in table.legend[-1]
    assert "**0.3200**†" in to_markdown(table)
    assert r"\textbf{0.3200}$^{\dagger}$" in to_latex(table)


def test_models_without_a_value_and_not_converged():
    late = RunRecord("Caser", "toys", 1, "paper", metrics={"mrr": 0.1}, converged=False)
    assert comparison_table([late]).rows[0].remark == "not converged (seed 1)"
    late = replace(late, config={"train_seconds": 9})
    broken = RunRecord("GRU4Rec", "toys", 1, "paper", status="failed", error="no GPU")
    table = comparison_table([late, broken], baseline="GRU4Rec")
    rows = rows_of(table)
    assert rows["Caser"].remark == "not converged in its time (seed 1)"
    assert rows["Caser"].cells[0].gain is None
    assert rows["GRU4Rec"].remark == "failed (seed 1): no GPU"
    assert rows["GRU4Rec"].seconds is None
    text = to_text(table)
    assert "no GPU" in text
    assert "None" not in text + to_markdown(table) + to_latex(table) + to_csv(table)


def test_what_ended_a_training_is_said_as_it_was():
    """By the limit that was reached, whichever others were set."""
    late = {"metrics": {"mrr": 0.1}, "converged": False}
    both = {"epochs": 2, "train_seconds": 60}
    table = comparison_table(
        [
            RunRecord("A", "toys", 1, "paper", config={"epochs": 2}, epochs=2, **late),
            RunRecord("A", "toys", 2, "paper", config=both, epochs=2, **late),
            RunRecord("A", "toys", 3, "paper", config=both, epochs=1, **late),
            RunRecord("B", "toys", 1, "paper", config={"epochs": 9}, epochs=9, converged=True),
        ]
    )
    assert [row.remark for row in table.rows] == [
        "stopped at epochs=2, not converged (seed 1, 2); not converged in its time (seed 3)",
        "",
    ]


def test_rehearsals_and_tied_scores_are_marked_in_every_format():
    """A table that is pasted elsewhere loses its log and its legend, never its rows."""
    metrics = {"mrr": 0.1}
    part = {"limit_users": 100}
    table = comparison_table(
        [
            RunRecord("Pop", "toys", 1, "paper", metrics=metrics, beyond={"tie_share": 0.99}),
            RunRecord("BPR", "toys", 1, "paper", metrics=metrics, beyond={"tie_share": 0.4}),
            RunRecord("HSTU", "toys", 1, "paper", metrics=metrics, config=part),
            RunRecord("HSTU", "toys", 2, "paper", metrics=metrics, config=part),
            RunRecord("LIS", "toys", 1, "paper", metrics=metrics, config={"limit_users": None}),
        ]
    )
    tied = "99% of the targets share their score with other items"
    rehearsal = "rehearsal on a part of the users: limit_users=100"
    assert [row.remark for row in table.rows] == [tied, "", rehearsal, ""]
    assert f"| {escape_markdown(rehearsal)} |" in to_markdown(table)
    assert f",{rehearsal}\n" in to_csv(table)
    assert escape_latex(rehearsal) in to_latex(table)
    assert "limit_users=100" in to_text(table)


any_text = st.text(max_size=30)
figure = st.floats(-1, 1)
tables = st.lists(
    st.tuples(any_text, st.one_of(st.none(), figure), any_text), min_size=1, max_size=5
).map(
    lambda rows: comparison_table(
        [
            RunRecord(f"m{i}{label}", "d", 1, "paper", metrics={"mrr": value})
            if value is not None
            else RunRecord(f"m{i}{label}", "d", 1, "paper", status="failed", error=f"x{error}")
            for i, (label, value, error) in enumerate(rows)
        ],
        ["mrr"],
    )
)


def unescaped(line, mark):
    """The parts of a line between marks that no backslash takes back."""
    return re.split(rf"(?<!\\)(?:\\\\)*{mark}", line)


@given(tables)
def test_csv_gives_back_labels_figures_and_errors(table):
    read = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    assert [r["model"] for r in read] == [row.label for row in table.rows]
    assert [r["remark"] for r in read] == [row.remark for row in table.rows]
    for got, row in zip(read, table.rows, strict=True):
        assert (float(got["mrr"]) if got["mrr"] else None) == row.cells[0].mean


@given(tables)
def test_every_line_of_markdown_and_latex_has_all_columns_and_no_more(table):
    markdown = to_markdown(table).split("\n")
    assert len(markdown) == 2 + len(table.rows) + 1
    assert {len(unescaped(line, r"\|")) for line in markdown[:-1]} == {9}
    latex = to_latex(table).split("\n")
    assert len(latex) == 7 + len(table.rows) + 1
    assert {len(unescaped(line, "&")) for line in latex[5:-3]} == {7}
    assert len(to_text(table).split("\n")) >= 3 + len(table.rows)


@given(any_text)
def test_markdown_escapes_can_be_taken_back(text):
    escaped = escape_markdown(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped) == text
    assert not re.search(r"(?<!\\)[|*_`<\[]", escaped.replace(r"\\", ""))


@given(any_text)
def test_latex_has_no_bare_special_left(text):
    bare = re.sub(
        r"\\text\w+\{\}|\\[&%$#_{}]|\$\\pm\$|\$\^\{\\d?dagger\}\$|\{[\[*]\}|-\{\}(?=-)",
        "",
        escape_latex(text),
    )
    assert not set(bare) & set('\\&%$#_{}~^<>|[*"')
    assert "--" not in escape_latex(text)


def test_rows_compare_within_an_order_of_ties():
    rows = [("HSTU", "file", 0.4), ("SASRec", "file", 0.3), ("HSTU h", "hash", 0.2)]
    rows += [("SASRec h", "hash", 0.1)]
    records = [replace(run(n, 1, hit_10=v), config={"tie_order": o}) for n, o, v in rows]
    found = rows_of(comparison_table(records, baseline="SASRec"))
    assert [found[name].cells[0].best for name, *_ in rows] == [True, False, True, False]
    assert found["HSTU"].cells[0].gain == pytest.approx(100 / 3)
    assert found["HSTU h"].cells[0].gain is None
    old = [replace(r, config={}) if r.label == "SASRec" else r for r in records]
    assert rows_of(comparison_table(old, baseline="SASRec"))["HSTU"].cells[0].gain is not None
