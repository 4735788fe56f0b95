"""From a folder of runs to files: what is in them, and what happens when something is wrong."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up_study import LEVELS, failed_run, finished_run, write_study

from recbole_hstu.records.run_record import RunRecord, read_records, write_record, write_run
from recbole_hstu.reports import plots
from recbole_hstu.reports.report import _with_metrics, write_report
from recbole_hstu.reports.study_table import ReportOptions, study_table
from recbole_hstu.support.errors import InputError

OPTIONS = ReportOptions(
    baseline="SASRec", baselines=("SASRec", "GRU4Rec", "BERT4Rec"), order=tuple(LEVELS)
)


class Page(HTMLParser):
    """What a browser would load, and the ids it would meet."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.refers, self.tags = [], [], [], []
        self.attributes, self.text = set(), ""
        self.feed(text)
        self.refers += re.findall(r"url\(#([^)]+)\)", text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "xlink:href") and value.startswith("#"):
                self.refers.append(value[1:])
            elif name in ("src", "href", "xlink:href"):
                self.loads.append(value)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    records = write_study(folder / "runs", users=300)
    written = write_report(folder / "runs", folder / "out", OPTIONS)
    return folder, records, written


def test_everything_is_written_once_and_nothing_else(study):
    folder, _, written = study
    assert sorted(p.name for p in (folder / "out").iterdir()) == sorted(p.name for p in written)
    kinds = [p.suffix for p in written]
    assert kinds.count(".png") == kinds.count(".svg") == 4
    assert {".md", ".csv", ".tex", ".html"} < set(kinds)
    assert all(p.stat().st_size > 300 for p in written)


def test_the_page_stands_alone(study):
    text = study[2][-1].read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.tags.count("svg") == 4
    assert len(page.ids) == len(set(page.ids))
    assert set(page.refers) <= set(page.ids)
    assert "toys &amp; &lt;games&gt;" in text
    assert "<games>" not in text
    assert "&lt;b&gt;5 &amp; 6&lt;/b&gt;" in text  # from a run's settings


HOSTILE = (
    "<script>alert(1)</script>",
    "{{ 7 * 191 }} {% raw %}",
    "\" onmouseover='alert(1)' x=\"",
    "]]></svg><img src=x onerror=alert(1)>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_wherever_it_stands(tmp_path, text):
    """As label, data set, setting, error, device; in the page and in the plots that it holds."""
    record, _ = finished_run("SASRec", 1, "toys", 60, 40)
    changed = {"label": text, "dataset": text, "config": {text: text}, "device": text}
    write_record(tmp_path, RunRecord(**(record.__dict__ | changed)))
    failed = RunRecord(**(failed_run("B", 1, text, text).__dict__ | {"protocol": "recbole"}))
    write_record(tmp_path, failed)
    shown = write_report(tmp_path, tmp_path / "out", ReportOptions())[-1].read_text("utf-8")
    page = Page(shown)
    assert page.loads == []
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "1337" not in shown
    assert page.text.count(" ".join(text.split())) >= 6


def test_a_failed_baseline_is_left_out_and_the_others_are_tested(study, caplog):
    folder, records, _ = study
    table = study_table(records, folder / "runs", OPTIONS)
    assert "no runs of the baseline BERT4Rec" in caplog.text
    rows = {row.label: row for row in table.rows}
    assert rows["HSTUText (lsa)"].cells[0].mark == "better"
    assert rows["BERT4Rec"].seeds == 0
    assert list(rows)[: len(LEVELS)] == list(LEVELS)


def test_recall_is_tested_as_hit_is(study):
    folder, records, _ = study
    twice = [
        replace(r, metrics={"hit@10": hit, "recall@10": hit})
        for r in records
        if (hit := r.metrics.get("hit@10")) is not None
    ]
    table = study_table(twice, folder / "runs", replace(OPTIONS, metrics=None))
    alone = study_table(records, folder / "runs", replace(OPTIONS, metrics=["hit@10"]))
    assert table.legend == alone.legend  # recall is no further comparison
    marks = [[cell.mark for cell in row.cells] for row in table.rows if row.label != "SASRec"]
    assert ["better", "better"] in marks
    assert all(hit == recall for hit, recall in marks)


def test_several_settings_each_have_their_table(tmp_path, caplog):
    for dataset, label in (("toys", "SASRec"), ("toys", "HSTU"), ("steam", "HSTU")):
        record, _ = finished_run(label, 1, dataset, 80, 40)
        write_record(tmp_path, RunRecord(**(record.__dict__ | {"history": (), "segments": {}})))
    written = write_report(tmp_path, tmp_path / "out", ReportOptions(baseline="SASRec"))
    tables = {p.name: p.read_text() for p in written if p.suffix == ".csv"}
    assert {name: text.count("HSTU") for name, text in tables.items()} == {
        "steam+recbole.csv": 1,
        "toys+recbole.csv": 1,
    }
    assert "steam (recbole): no runs of the baseline SASRec" in caplog.text
    with pytest.raises(InputError, match="unknown baseline LIS: choose among HSTU, SASRec"):
        write_report(tmp_path, tmp_path / "none", ReportOptions(baselines=["LIS"]))
    assert not (tmp_path / "none").exists()


def test_runs_of_other_terms_are_refused_before_anything_is_written(tmp_path):
    for label, masked in (("SASRec", True), ("HSTU", False)):
        record, _ = finished_run(label, 1, "toys", 80, 40)
        write_record(tmp_path, RunRecord(**(record.__dict__ | {"config": {"mask_seen": masked}})))
    with pytest.raises(InputError, match="SASRec and HSTU were not judged alike: mask_seen is"):
        write_report(tmp_path, tmp_path / "none", ReportOptions())
    assert not (tmp_path / "none").exists()


def test_one_user_is_not_tested(tmp_path, caplog):
    for label in ("SASRec", "HSTU"):
        record, ranks = finished_run(label, 1, "toys", 1, 40)
        write_run(tmp_path, record, ranks)
    write_report(tmp_path, tmp_path / "out", ReportOptions(baselines=["SASRec"]))
    assert "one user was evaluated: nothing is tested" in caplog.text


def test_a_row_of_which_a_seed_kept_no_ranks(tmp_path, caplog):
    """Neither tested nor shown by the others alone; a baseline of this kind stays one of gains."""
    for label, level in (("A", 40), ("B", 34), ("C", 30)):
        for seed in (1, 2):
            record, ranks = finished_run(label, seed, "toys", 60, level)
            write_run(tmp_path, record, None if (label, seed) == ("B", 2) else ranks)
    options = ReportOptions(metrics=["mrr", "ndcg@3"], baselines=["A"])
    every = [_with_metrics(r, tmp_path, options.metrics) for r in read_records(tmp_path)]
    rows = {row.label: row for row in study_table(every, tmp_path, options).rows}
    assert [cell.p is None for label in "ABC" for cell in rows[label].cells[:1]] == [1, 1, 0]
    assert [rows[label].cells[1].mean is None for label in "ABC"] == [False, True, False]
    assert rows["B"].cells[0].mean is not None
    assert "B, seed 2, kept no ranks: the row is not tested" in caplog.text
    assert "B, seed 2, has no ndcg@3: the row shows none" in caplog.text
    caplog.clear()
    gains = study_table(every, tmp_path, replace(options, baseline="B", baselines=["B"]))
    assert [row.cells[0].gain is None for row in gains.rows] == [False, True, False]
    assert all(row.cells[0].p is None for row in gains.rows)
    assert "no runs of the baseline" not in caplog.text


def test_plots_are_the_same_bytes_for_the_same_runs(study, tmp_path):
    """So that committed plots change only when the runs do."""
    folder, _, written = study
    again = write_report(folder / "runs", tmp_path, OPTIONS)
    for old, new in zip(written, again, strict=True):
        assert old.read_bytes() == new.read_bytes(), old.name


def test_curves_show_every_run_against_epochs_and_seconds(study):
    _, records, _ = study
    with_history = [r for r in records if r.history]
    axes = plots.training_curves(records, "ndcg@10").axes
    assert [len(a.get_lines()) for a in axes] == [len(with_history)] * 4
    longest = max(with_history, key=lambda r: r.training_seconds)
    assert max(x for line in axes[1].get_lines() for x in line.get_xdata()) == (
        longest.history[-1].seconds
    )
    assert axes[0].get_yscale() == "log"  # SASRec's loss is 50 times the others'
    validated = [e for e in with_history[0].history if e.valid]
    assert list(axes[2].get_lines()[0].get_xdata()) == [e.epoch for e in validated]


def test_seconds_are_seconds():
    """Not "100 m", which reads as minutes."""
    records = [
        RunRecord("HSTU", "d", seed, "p", metrics={"mrr": 0.1}, training_seconds=seconds)
        for seed, seconds in enumerate([0.1, 5.0, 2000.0])
    ]
    figure = plots.cost_scatter(records, "mrr")
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert {"0.1", "1,000"} <= set(labels)


def test_bars_are_means_over_seeds(study):
    _, records, _ = study
    axes = plots.segment_bars(records, "users", "mrr").axes[0]
    bars = axes.containers[0]
    runs = [r for r in records if r.label == "SASRec" and r.segments]
    expected = [sum(r.segments["users"][i].metrics["mrr"] for r in runs) / 3 for i in range(3)]
    assert [bar.get_height() for bar in bars] == pytest.approx(expected)
    with pytest.raises(InputError, match="no run has metrics"):
        plots.segment_bars([failed_run("A", 1, "d", "x")], "users", "mrr")


def test_every_model_of_many_looks_different():
    records = [RunRecord(f"m{i}", "d", 1, "paper") for i in range(20)]
    looks = plots._styles(records).values()
    assert len({(s["color"], s["marker"], str(s["linestyle"])) for s in looks}) == 20


def test_odd_names_and_free_models(tmp_path):
    """Dollars, underscores, a training-free model at 0 seconds, a loss that is not a number."""
    free = RunRecord("_L$I$_S", "d", 1, "paper", metrics={"mrr": 0.1})
    costly = RunRecord(
        "<B>", "d", 1, "paper", metrics={"mrr": 0.2}, training_seconds=5000.0, parameters=10**7
    )
    cheap = RunRecord("C", "d", 1, "paper", metrics={"mrr": 0.3}, training_seconds=5.0)
    figure = plots.cost_scatter([free, costly, cheap], "mrr")
    assert figure.axes[0].get_xscale() == "symlog"
    text = plots.svg(figure)
    assert "_L$I$_S" in text
    assert [p.suffix for p in plots.save(figure, tmp_path / "cost")] == [".png", ".svg"]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"recbole-hstu\[plot\]"):
        plots.cost_scatter([RunRecord("A", "d", 1, "paper", metrics={"mrr": 0.1})], "mrr")


def test_runs_in_other_segments_are_not_drawn_beside_these(study, caplog):
    _, records, _ = study
    odd = [
        replace(r, config=dict(r.config) | {"user_segments": [3, 20]}) if r.label == "HSTU" else r
        for r in records
    ]
    axes = plots.segment_bars(odd, "users", "mrr").axes[0]
    assert "HSTU" not in [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert "history length: HSTU has others and is not drawn" in caplog.text


def test_models_are_tested_within_an_order_of_ties(tmp_path):
    """In hashed order users have other targets, and other ranks."""
    for label, order in (("A", "file"), ("B", "file"), ("A h", "hash"), ("B h", "hash")):
        record, ranks = finished_run(label, 1, "toys", 400, 40 if label[0] == "A" else 34)
        write_run(tmp_path, replace(record, config={"tie_order": order}), ranks)
    table = study_table(read_records(tmp_path), tmp_path, ReportOptions(baselines=["A"]))
    tested = {row.label: row.cells[0].p is not None for row in table.rows}
    assert tested == {"A": False, "B": True, "A h": False, "B h": False}
    both = study_table(read_records(tmp_path), tmp_path, ReportOptions(baselines=["A", "A h"]))
    p = {row.label: row.cells[0].p for row in both.rows}
    (alone,) = (row.cells[0].p for row in table.rows if row.label == "B")
    assert alone < p["B"] == p["B h"] < 1  # alike ranks, corrected for comparisons of both orders
    records, options = read_records(tmp_path), ReportOptions(baselines=["A", "A h"])
    for runs, references in ((records, "(A h, A)"), (records[::-1], "(A, A h)")):
        assert references in " ".join(study_table(runs, tmp_path, options).legend)


def test_runs_on_other_data_of_the_same_name_do_not_stand_in_one_table(tmp_path):
    for label, dataset in (("A", "toys"), ("B", "toys"), ("A", "games"), ("B", "games")):
        record, ranks = finished_run(label, 1, dataset, 80, 40)
        if (label, dataset) == ("B", "toys"):
            history = ranks.history_length + (np.arange(80) == 3)
            ranks = replace(ranks, history_length=history)
        write_run(tmp_path / "runs", record, ranks)
    other = (
        r"B and A were not tested on the same events \(1 users differ, such as u3\): compare runs"
    )
    for options in (ReportOptions(baselines=["A"]), ReportOptions()):
        with pytest.raises(InputError, match=other):
            write_report(tmp_path / "runs", tmp_path / "out", options)
        assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written(study):
    folder, _, _ = study
    (folder / "a file").touch()
    with pytest.raises(InputError, match="a file: cannot be written"):
        write_report(folder / "runs", folder / "a file", ReportOptions())


def test_a_plot_without_figures_is_left_out(study, tmp_path, caplog):
    folder, _, _ = study
    written = write_report(folder / "runs", tmp_path, ReportOptions(plot_metric="hit@33"))
    assert not [path for path in written if "users" in path.name or "items" in path.name]
    assert "no run has hit@33 of" in caplog.text
