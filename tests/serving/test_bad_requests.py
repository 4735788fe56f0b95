"""Whatever is wrong with a request or a checkpoint is said in one line."""

import json
import re
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from served import events, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.serving.cached.history_cache import HistoryCache
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint

GOOD = [[("i1", 5), ("i2", 7)]]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Recommenders of one small HSTU, SASRec and BPR."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("models"))
        toy_with_text()
        return {
            name: Recommender.load(trained(name)["checkpoint"])
            for name in ("HSTU", "SASRec", "BPR")
        }


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert re.search(word, message), message


@pytest.mark.parametrize(
    ("histories", "words"),
    [
        ([], ["nobody"]),
        ([[]], ["user 0", "empty"]),
        ([[("i1", 5)], []], ["user 1", "empty"]),
        ([[("i1", 5), ("nothing", 7)]], ["1 of 2 events", "nothing", "on_unknown=ignore"]),
        ([[("[PAD]", 5)]], ["does not know"]),
        ([[("i1", 7), ("i2", 5)]], ["user 0", "5 comes after 7", "oldest first"]),
        ([[("i1", float("nan"))]], ["nan is not a whole number"]),
        ([[("i1", float("inf"))]], ["inf is not a whole number"]),
        ([[("i1", 5.5)]], ["5.5 is not a whole number"]),
        ([[("i1", 10**30)]], ["not a whole number"]),
        ([[("i1", 2**62)]], ["below 2\\*\\*62"]),
        ([[("i1", "5")]], ["'5' is not a whole number"]),
        ([[("i1", True), ("i2", 5)]], ["True is not a whole number"]),
        ([["i1", "i2"]], ["reads the times"]),
        ([["i1", ("i2", 5)]], ["1 of 2 events have no time"]),
        ([[("i1", 5, 6)]], ["not an .item, time. pair"]),
        ([[(1.5, 5)]], ["1.5 is not an item token"]),
        ([[(None, 5)]], ["None is not an item token"]),
        (["i1"], ["user 0", "expected a list"]),
        ("i1", ["a str", "expected a list"]),
        ({"u1": [("i1", 5)]}, ["a dict", "expected a list"]),
        (pd.DataFrame({"user": ["a"], "time": [5]}), ["no column item"]),
        (pd.DataFrame({"user": ["a"], "item": ["i1"]}), ["reads the times"]),
        (pd.DataFrame({"user": ["a"], "item": [None], "time": [5]}), ["row 1: no item"]),
        (pd.DataFrame({"user": ["a"], "item": ["i1"], "time": [np.nan]}), ["nan is not"]),
        (pd.DataFrame({"user": [], "item": [], "time": []}), ["nobody"]),
    ],
)
def test_bad_histories(models, histories, words):
    refused(lambda: models["HSTU"].recommend(histories, k=3, at=10), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": None}, ["HSTU reads the time of the request", "give one, such as at="]),
        ({"at": 6}, ["6 lies before the last event of user 0 .7."]),
        ({"at": float("nan")}, ["at: nan"]),
        ({"at": [9, 9]}, ["2 times for 1 users"]),
        ({"at": [[9]]}, ["at: .9. is not a whole number"]),
        ({"at": {"other": 9}}, ["no time for the users 0"]),
        ({"at": pd.Series([9, 9], index=["0", "0"])}, ["two times for 0$"]),
        ({"at": "soon"}, ["at: 'soon' is not a whole number$"]),
        ({"at": "2024-07-03"}, ["in the unit of the data set: in seconds it is 1719964800 .UTC.$"]),
        ({"at": "2024-07-03T02:00+02:00"}, ["in seconds it is 1719964800 "]),
        ({"at": date(2024, 7, 3)}, ["in seconds it is 1719964800 "]),
        ({"at": [datetime(2024, 7, 3, 0, 0, 1)]}, ["in seconds it is 1719964801 "]),
        ({"at": pd.Timestamp("2024-07-03", tz="UTC")}, ["in seconds it is 1719964800 "]),
        ({"at": np.datetime64("2024-07-03")}, ["in seconds it is 1719964800 "]),
        ({"at": pd.NaT}, ["NaT is not a whole number$"]),
        ({"k": 0}, ["k: 0", "1 to the 30 items"]),
        ({"k": 31}, ["k: 31"]),
        ({"k": 2.5}, ["k: 2.5"]),
        ({"k": True}, ["k: True"]),
        ({"k": 3, "candidates": ["i1", "i2"]}, ["k: 3", "the 2 items"]),
        ({"exclude": [f"i{n}" for n in range(30)]}, ["no item is left to recommend; allow more"]),
        ({"candidates": ["i1"], "exclude": ["i1"]}, ["no item is left to recommend"]),
        ({"candidates": ["nothing"]}, ["does not know: nothing"]),
        ({"candidates": []}, ["items: the list is empty"]),
        ({"candidates": "i1"}, ["items: 'i1' is not a list of tokens"]),
        ({"exclude": "i1"}, ["exclude: 'i1' is not a list of tokens"]),
        ({"exclude": ["nothing"]}, ["does not know: nothing"]),
        ({"on_unknown": "skip"}, ["'skip' is not one of raise, warn, ignore"]),
    ],
)
def test_bad_options(models, options, words):
    refused(lambda: models["HSTU"].recommend(GOOD, **{"k": 3, "at": 10, **options}), *words)


@pytest.mark.parametrize(
    ("last", "at", "words"),
    [
        (1_719_000_000, 1_720_000_000_000, "is in milliseconds, and .* in seconds .* 1719000000"),
        (1_719_000_000_000, 1_720_000_000, "is in seconds, and .* in milliseconds .*; give it in"),
        (1_719_000_000, 1_718_000_000, "lies before the last event of user 1"),
        (1_719_000_000, 9_719_000_000, None),
        (7, 1_720_000_000_000, None),
        (1_719_000_000_000_000, 1_720_000_000_000_000, None),
        (1_719_000_000_000_000, 1_720_000_000_000_000_000, None),
        (1_719_000_000, 1_720_000_000_000_000_000, "is in microseconds or nanoseconds, and "),
    ],
)
def test_the_unit_of_a_request(models, monkeypatch, last, at, words):
    """It is that of the user's last event, as far as their size tells it."""
    monkeypatch.setitem(models["HSTU"].saved.state, "times", None)  # an older checkpoint
    histories, times = [*GOOD, [("i1", 5), ("i2", last)]], [9, at]
    if words:
        refused(lambda: models["HSTU"].recommend(histories, k=3, at=times), f"at: {at} {words}")
    else:
        assert len(models["HSTU"].recommend(histories, k=3, at=times)) == 6


def test_any_time_of_the_training_will_do(models, monkeypatch):
    """Of a set in seconds with one wrong row, and of one that begins near 0."""
    rec = models["HSTU"]
    wrong_row, from_0 = [1_500_000_000, 1_600_000_000_000], [0, 126 * 10**9]
    for known, time in ((wrong_row, 1_590_000_000), (from_0, 5 * 10**9)):
        monkeypatch.setitem(rec.saved.state, "times", known)
        assert len(rec.recommend([[("i1", time)]], k=3, at=time + 1)) == 3


@pytest.mark.parametrize("name", ["HSTU", "SASRec"])
def test_times_have_the_unit_of_the_training(models, name):
    """Milliseconds; those of the training are of 2020."""
    rec, second, words = models[name], 1_719_000_000, "1719000000 is in seconds, .* the training"
    both = [[("i1", second), ("i2", second * 1000)]]
    refused(lambda: rec.recommend(both, k=3, at=second * 1000), f"histories: time {words}")
    refused(lambda: rec.recommend(GOOD, k=3, at=second), f"at: {words}")
    finer = second * 10**9
    refused(lambda: rec.recommend(GOOD, k=3, at=finer), f"at: {finer} is in microseconds or nano")
    table = pd.DataFrame({"user": ["u1"], "item": ["i1"], "time": [second]})
    refused(lambda: rec.add_events(table), f"histories: time {words}")
    cache = HistoryCache(rec)
    refused(lambda: cache.append("anna", "i1", second), f"histories: time {words}")
    assert "anna" not in cache


def test_a_token_alone_is_no_list(models):
    users = models["SASRec"].recommend_users
    for tokens in ("u1", b"u1", 1, None, {"u1": 5}):
        refused(lambda tokens=tokens: users(tokens), "users: .* is not a list of tokens")
    lists = users((token for token in ["u1"]), events(), k=2, exclude=(item for item in ["i1"]))
    assert set(lists["user"]) == {"u1"}


@pytest.mark.parametrize("given", ["no", [], None, 1])
def test_a_switch_is_true_or_false(models, given):
    call = models["HSTU"].recommend
    refused(lambda: call(GOOD, k=3, at=10, exclude_seen=given), "exclude_seen: .* True or False")


def test_tokens_that_pandas_made_decimal(models):
    table = pd.DataFrame({"user": [1.0], "item": ["i1"], "time": [5]})
    words = "the column user holds decimal numbers .1.0.; make them whole"
    refused(lambda: models["HSTU"].add_events(table), f"histories: {words}")
    refused(lambda: models["HSTU"].recommend_users(["1"], table, at=9), f"dataset: {words}")
    twice = pd.concat([table, table], axis=1)
    refused(lambda: models["HSTU"].recommend(twice, at=9), "the column user stands there twice")


def test_unknown_items_are_left_out_and_counted(models, caplog):
    histories = [[("i1", 5), ("new", 6)], [("new", 6)], [("i2", 7)]]
    rec = models["HSTU"]
    lists = rec.recommend(histories, k=2, at=[8, 9, 10], on_unknown="warn")
    assert lists["user"].tolist() == [0, 0, 2, 2]
    assert "2 of 4 events are of unknown items" in caplog.text
    assert "1 of 3 users" in caplog.text
    caplog.clear()
    again = rec.recommend(histories, k=2, at=[8, 9, 10], on_unknown="ignore")
    assert again.equals(lists)
    assert not caplog.text
    alone = rec.recommend([[("i2", 7)]], k=2, at=10)
    assert lists["item"].tolist()[2:] == alone["item"].tolist()


def test_users_that_nobody_knows(models):
    refused(lambda: models["BPR"].recommend(GOOD), "knows its users by name", "recommend_users")
    table = pd.DataFrame({"user": ["stranger"], "item": ["i1"], "time": [5]})
    refused(lambda: models["BPR"].recommend(table), "by name", "stranger")
    users = models["BPR"].recommend_users
    refused(lambda: users(["stranger"], exclude_seen=False), "by name", "stranger")
    refused(lambda: users(["u1"], "nowhere"), "nowhere.toy.inter is not there", "--dataset=")
    seq = models["SASRec"].recommend_users
    table = pd.DataFrame({"user": ["u1"], "time": [5]})
    refused(lambda: seq(["u1"], table), "dataset: no column item; expected a table")
    refused(lambda: seq(["u1"], table[["time"]]), "dataset: no column user, item")
    refused(lambda: seq(["u1"], "nowhere"), "is not there", "or give histories")


def test_the_most_similar_item_alone(models):
    both = models["HSTU"].similar_items("i1", k=2)
    assert models["HSTU"].similar_items("i1", k=1).equals(both[:1])


def test_unknown_similar_items(models):
    refused(lambda: models["HSTU"].similar_items("nothing"), "does not know: nothing")
    refused(lambda: models["HSTU"].similar_items("i1", k=30), "k: 30")
    refused(lambda: models["HSTU"].scores(GOOD[0], [], at=10), "items: the list is empty")


@pytest.fixture
def file(toy):
    return trained("HSTU")["checkpoint"]


def test_checkpoints_that_are_none(file, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(file.read_bytes()[:2000])
    refused(lambda: Recommender.load(cut), "cut.pth: damaged")
    refused(lambda: Recommender.load("absent.pth"), "absent.pth: no such checkpoint")
    text = tmp_path / "text.pth"
    text.write_text(json.dumps({}))
    refused(lambda: Recommender.load(text), "text.pth: damaged")


def test_checkpoints_of_another_release(file, tmp_path):
    state = checkpoint.load_checkpoint(file)
    other = tmp_path / "other.pth"

    def saved(**changes):
        changed = {k: v for k, v in {**state, **changes}.items() if v is not None}
        torch.save(changed, other)
        return lambda: Recommender.load(other)

    refused(saved(item_tokens=None), "lacks item_tokens", "another release")
    weights = dict(state["state_dict"])
    weights["layers.0.old_name"] = weights.pop("layers.0.uvqk")
    refused(saved(state_dict=weights), "other.pth: does not fit HSTU of this release")
    gone = {**state["config"], "model_class": "recbole_hstu.model.gone:Gone"}
    refused(saved(config=gone), "there is no module recbole_hstu.model.gone")
    fewer = {k: v for k, v in state["config"].items() if k != "n_heads"}
    refused(saved(config=fewer), "does not fit HSTU of this release")  # the default has other heads


@pytest.mark.parametrize("model", ["HSTUText", "LIS"])
def test_text_vectors_that_are_missing_or_others(in_empty_folder, model):
    toy_with_text()
    text = {"item_text": {"fields": ["title"]}, "text_dimensions": 6}
    file = trained(model, **text)["checkpoint"]
    recorded = next((in_empty_folder / "dataset/toy").glob("*.safetensors"))
    trained(model, **{**text, "text_dimensions": 5}, checkpoint_dir="others")
    (other,) = (p for p in recorded.parent.glob("*.safetensors") if p != recorded)
    refused(lambda: Recommender.load(file, text_features_file=other), "other text vectors|fit")
    moved = recorded.rename(in_empty_folder / "elsewhere.safetensors")
    refused(lambda: Recommender.load(file), "text vectors of", "text_features_file=")
    history = [[("i1", 5)]]
    lists = Recommender.load(file, text_features_file=moved).recommend(history, k=3, at=6)
    moved.rename(file.parent / recorded.name)  # beside the checkpoint it is found
    assert Recommender.load(file).recommend(history, k=3, at=6).equals(lists)


def test_a_device_that_is_not_there(file):
    refused(lambda: Recommender.load(file, device="nonsense"), "device: nonsense")
