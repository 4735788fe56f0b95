"""What happened since the training is counted, and only what came before a request."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from served import events, metrics_of, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.layers.items import recent_counts
from recbole_hstu.quick_start import evaluate
from recbole_hstu.support.errors import InputError

START = 1_600_000_000_000
CUT = START + 6 * 10**8  # the toy events lie in the 10**9 ms after the start
OPTIONS = {
    "protocol": "time_split",
    "eval_args": {"split": {"TS": [CUT, CUT + 1]}},  # nobody validates
    "topk": [5],
    "valid_metric": "NDCG@5",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model whose training ended at the cut, with windows of two days and five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("model"))
        toy_with_text()
        result = trained("HSTU", recent_days=[2, 5], learning_rate=0.1, **OPTIONS)
        return result["checkpoint"].resolve()


@pytest.fixture
def requests():
    """Histories of those with an event after the cut, their last events, and all later events."""
    table = events()
    later = table[table["time"] >= CUT]
    last = later.drop_duplicates("user", keep="last").set_index("user")
    own = table[table["user"].isin(last.index)]
    histories = own[own.duplicated("user", keep="last")]
    return histories, last.loc[histories["user"].unique()], later


def test_counting_on_is_what_known_events_are_judged_by(checkpoint, requests, monkeypatch):
    monkeypatch.chdir(checkpoint.parent.parent)
    histories, targets, later = requests
    rec = Recommender.load(checkpoint)
    at = targets["time"]
    frozen = rec.recommend(histories, k=30, at=at, exclude_seen=False)
    rec.add_events(later)
    lists = rec.recommend(histories, k=30, at=at, exclude_seen=False)
    assert not lists["score"].equals(frozen["score"])
    for found, which in ((frozen, "training"), (lists, "known")):
        judged = evaluate(checkpoint, config_dict={"recent_events": which})["test_result"]
        for name, value in metrics_of(found, targets, 5).items():
            assert judged[name] == pytest.approx(value, abs=1e-6), (which, name)


@pytest.mark.parametrize("model", ["HSTU", "RecentPop"])
def test_a_checkpoint_holds_what_was_trained_on(model, requests, toy):
    """Judged with all that is known, served with what came before the cut, and what is added."""
    histories, targets, later = requests
    days = 2 if model == "RecentPop" else [2, 5]
    result = trained(model, recent_days=days, recent_events="known", **OPTIONS)
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    rec = Recommender.load(result["checkpoint"])
    assert len(rec.saved.model.recent.items) == len(events()) - len(later)
    frozen = rec.recommend(histories, k=30, at=targets["time"], exclude_seen=False)
    rec.add_events(later)
    lists = rec.recommend(histories, k=30, at=targets["time"], exclude_seen=False)
    for found, which in ((frozen, "training"), (lists, "known")):
        options = {"recent_events": which}
        judged = evaluate(result["checkpoint"], config_dict=options)["test_result"]
        for name, value in metrics_of(found, targets, 5).items():
            assert judged[name] == pytest.approx(value, abs=1e-6), (which, name)


def test_events_after_a_request_change_nothing(checkpoint, requests):
    histories, _, later = requests
    rec, at = Recommender.load(checkpoint), CUT + 10**8
    asked = histories[histories["time"] <= at]
    rec.add_events(later[later["time"] < at])
    before = rec.recommend(asked, k=5, at=at)
    rec.add_events(later[later["time"] >= at])
    pd.testing.assert_frame_equal(rec.recommend(asked, k=5, at=at), before)


def test_the_command_counts_a_file(checkpoint, requests, in_empty_folder):
    histories, _, later = requests
    later.sort_values("user", kind="stable").to_csv("later.csv", index=False)
    histories.sort_values("user", kind="stable").to_csv("asked.csv", index=False)
    options = ["--histories=asked.csv", f"--at={START + 10**9}", "--out=recs.csv"]
    assert main(["recommend", str(checkpoint), *options, "--new_events=later.csv"]) == 0
    rec = Recommender.load(checkpoint)
    rec.add_events(later)
    expected = rec.recommend(pd.read_csv("asked.csv"), k=10, at=START + 10**9)
    pd.testing.assert_frame_equal(pd.read_csv("recs.csv"), expected, check_dtype=False, atol=1e-6)
    options[-1] = "--out=other.csv"
    assert main(["recommend", str(checkpoint), *options, "--new_events=missing.csv"]) == 2
    assert not Path("other.csv").exists()


def test_what_cannot_be_counted_changes_nothing(checkpoint, requests, monkeypatch):
    monkeypatch.setattr(recent_counts, "MAX_BYTES", 1 << 20)
    _, _, later = requests
    rec = Recommender.load(checkpoint)
    counts = rec.saved.model.recent
    table = counts.table.clone()
    with pytest.raises(InputError, match="is in microseconds or nanoseconds, and"):
        rec.add_events([[("i1", START * 10**3)]])
    with pytest.raises(InputError, match=r"the counts of 31 items in .* bins would take"):
        rec.add_events([[("i1", 2 * START)]])
    with pytest.raises(InputError, match="time 1600000000 is in seconds, and the times of"):
        rec.add_events([[("i1", START // 1000)]])
    rec.saved.state["times"] = None  # an older checkpoint
    with pytest.raises(InputError, match="time 1600000000 is not in the unit of the training"):
        rec.add_events([[("i1", START // 1000)]])
    with pytest.raises(InputError, match="does not know: i99"):
        rec.add_events([[("i1", CUT), ("i99", CUT)]])
    assert torch.equal(counts.table, table)
    rec.add_events(later)
    assert not torch.equal(counts.table[: len(table)], table)


def test_held_out_events_are_not_counted_by_user(toy):
    with pytest.raises(InputError, match="recent_events: known needs a cut in time"):
        trained("HSTU", recent_days=[2], recent_events="known")
    for model in ("HSTU", "RecentPop"):
        with pytest.raises(InputError, match="known counts nothing without recent_days"):
            trained(model, recent_events="known", **OPTIONS)


def test_keys_above_what_a_float_holds_reach_the_terms(checkpoint, requests, monkeypatch):
    """Item ids are keys of transitions, and a catalogue may have more than 2^24 items."""
    rec = Recommender.load(checkpoint)
    keys = torch.tensor([[2**24 + 1, 2**40 + 3], [0, -1]])
    read = []
    monkeypatch.setattr(rec.scorer.model, "term_keys", lambda batch: keys)
    monkeypatch.setattr(
        rec.scorer.model, "terms_at", lambda keys, items: read.append(keys) or torch.zeros(2, 1)
    )
    given = rec.read(requests[0])
    batch = rec.batch(given, rec.request_times(2 * CUT, given, given.users), 0, 2)
    with torch.inference_mode():
        prepared = rec.scorer.prepare(batch)
    rec.scorer.scores(prepared, torch.tensor([1]))
    assert torch.equal(read[0], keys)
