"""Records: what is written is read, and what is damaged is told."""

from __future__ import annotations

import json
import math
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_study import finished_run

from recbole_hstu.records import run_record
from recbole_hstu.records.rank_file import read_rank_file
from recbole_hstu.records.run_record import (
    Epoch,
    RunRecord,
    read_record,
    read_records,
    record_name,
    write_record,
    write_run,
)
from recbole_hstu.support.errors import InputError


def test_round_trip(tmp_path):
    record, _ = finished_run("HSTUText (lsa)", 1, "toys/games", 50, 30)
    assert read_record(write_record(tmp_path, record)) == RunRecord(
        **(record.__dict__ | {"segments": {k: tuple(v) for k, v in record.segments.items()}})
    )
    assert read_records(tmp_path)[0].metrics == record.metrics


def test_a_diverged_run_is_kept_in_strict_json(tmp_path):
    history = (Epoch(1, 2.0, math.inf, {}), Epoch(2, 4.0, math.nan, {"ndcg@10": math.nan}))
    record = RunRecord("HSTU", "d", 1, "paper", history=history, metrics={"mrr": -math.inf})
    path = write_record(tmp_path, record)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    read = read_record(path)
    assert read.metrics["mrr"] == -math.inf
    assert read.history[0].train_loss == math.inf
    assert math.isnan(read.history[1].valid["ndcg@10"])


name = st.text(alphabet="aA/+-_. %é\\", min_size=1, max_size=5)


@settings(max_examples=300)
@given(st.tuples(name, name, name), st.tuples(name, name, name))
def test_every_run_has_its_own_file_in_the_folder(a, b):
    names = [record_name(RunRecord("m", d, 1, p, label=label)) for label, d, p in (a, b)]
    assert (names[0] == names[1]) == (a == b)
    assert not set("/\\") & set("".join(names))


def test_no_label_hides_its_files(tmp_path):
    path = write_record(tmp_path, RunRecord("m", "d", 1, "p", label=".x"))
    assert path.name == "%2Ex+d+p+seed1.run.json"
    assert unquote(path.name.partition("+")[0]) == ".x"
    assert read_records(tmp_path)[0].label == ".x"


def test_failed_runs_say_why():
    with pytest.raises(ValueError, match="has an error"):
        RunRecord("m", "d", 1, "paper", status="failed")
    with pytest.raises(ValueError, match="has an error"):
        RunRecord("m", "d", 1, "paper", error="oops")
    with pytest.raises(ValueError, match="status must be"):
        RunRecord("m", "d", 1, "paper", status="running")


EPOCH = {"epoch": 1, "seconds": 1.0, "train_loss": 1.0, "valid": {}}
SEGMENT = {"name": "1-5", "users": 3, "share": 0.5, "metrics": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(version=2), "version 1"),
        (
            lambda c: c.update(rank_file="../other.ranks.npz"),
            "rank_file lies in the record's folder",
        ),
        (lambda c: c.update(colour="red"), "unknown fields colour"),
        (lambda c: c.update(seed="one"), "seed is 'one', not int"),
        (lambda c: c.update(model=None), "model is None, not str"),
        (lambda c: c.pop("dataset"), "dataset"),
        (lambda c: c.update(metrics={"mrr": "high"}), "could not convert"),
        (lambda c: c.update(history=[{"epoch": 1}]), "seconds"),
        (lambda c: c.update(segments=[]), "segments is \\[\\], not dict"),
        (lambda c: c.update(config=None), "config is None, not dict"),
        (lambda c: c.update(config=[1]), r"config is \[1\], not dict"),
        (lambda c: c.update(history={}), "history is {}, not list"),
        (lambda c: c.update(history=[EPOCH | {"epoch": "x"}]), "epoch is 'x', not int"),
        (
            lambda c: c.update(segments={"users": [SEGMENT | {"users": "x"}]}),
            "users of a segment is",
        ),
        (lambda c: c.update(converged="yes"), "converged is 'yes', not bool"),
        (lambda c: c.update(training_seconds="nan"), "training_seconds is nan"),
    ],
)
def test_damage_is_told(tmp_path, change, words):
    path = write_record(tmp_path, RunRecord("HSTU", "d", 1, "paper"))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words) as caught:
        read_records(tmp_path)
    assert str(path) in str(caught.value)


def test_unreadable_and_empty(tmp_path):
    with pytest.raises(InputError, match="no results here"):
        read_records(tmp_path)
    path = write_record(tmp_path, RunRecord("HSTU", "d", 1, "paper"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="not a readable record"):
        read_record(path)


def test_settings_must_be_plain_and_leave_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        write_record(tmp_path, RunRecord("m", "d", 1, "paper", config={"f": print}))
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_put_aside_never_lacks_its_ranks(tmp_path, monkeypatch):
    record, ranks = finished_run("HSTU", 1, "toys", 5, 40)
    path = write_run(tmp_path, record, ranks)

    def die(*_args, **_options):
        raise OSError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(run_record, "write_whole", die)
        with pytest.raises(InputError, match=r"cannot be written \(No space"):
            run_record.keep_before(path, read_record(path))
    assert read_rank_file(tmp_path / read_record(path).rank_file).ranks.size == 5
    kept = run_record.keep_before(path, read_record(path))
    assert read_rank_file(kept.parent / read_record(kept).rank_file).ranks.size == 5
    assert [p.name for p in tmp_path.iterdir()] == ["before"]
