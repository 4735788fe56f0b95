"""Kept keys and values against the whole computation."""

import numpy as np
import pandas as pd
import pytest
import torch
from hstu_batches import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from served import all_but_last, events, trained

from recbole_hstu import Recommender
from recbole_hstu.serving.cached.event_store import EventStore
from recbole_hstu.serving.cached.history_cache import HistoryCache
from recbole_hstu.serving.cached.key_value_rows import KeyValueRows
from recbole_hstu.support.errors import InputError

WIDTH = 7


def whole(model, table, store, users, at):
    """The users' vectors by the model itself, from the stored events."""
    histories = store.histories(users, with_times=True)
    rows = histories.rows(0, len(users), WIDTH)
    batch = {
        "item_id_list": rows["item"],
        "timestamp_list": rows["time"],
        "item_length": rows["length"],
        "timestamp": at,
    }
    return model.user_vectors(batch, table)


def stream(model, seed, check, n_users=5, max_users=3, steps=40):
    """Random events and requests: equal times, sliding windows, users who are forgotten."""
    rng = np.random.default_rng(seed)
    table = model.items()[0]
    store = EventStore(WIDTH, max_users)
    rows = KeyValueRows(model, table, store)
    clock = 10**9
    for _ in range(steps):
        clock += int(rng.choice([0, 0, 1, 1000, 10**6]))
        user = int(rng.integers(n_users))
        if rng.random() < 0.6:
            store.append(user, int(rng.integers(1, 61)), clock)
        elif rng.random() < 0.2:
            length = int(rng.integers(1, 12))
            times = clock - np.sort(rng.integers(0, 10**7, length))[::-1]
            store.put(user, rng.integers(1, 61, length), times)
        users = [user for user in range(n_users) if user in store and rng.random() < 0.7]
        if users:
            at = torch.from_numpy(clock + rng.integers(0, 10**5, len(users)))
            found = rows.user_vectors(store.places(users), at)
            check(found, whole(model, table, store, users, at), rows)
    return store


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_a_stream_of_events_and_requests_is_exact(dtype, seed):
    model = make_model(MAX_ITEM_LIST_LENGTH=WIDTH, n_layers=3).to(dtype)
    if dtype == torch.float32:  # of the size that training gives
        for parameter in model.parameters():
            parameter.data.mul_(0.2)

    def check(found, expected, _):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    with torch.inference_mode():
        store = stream(model, seed, check)
    assert store.forgotten > 0


def test_keeping_the_last_row_as_well_is_wrong(monkeypatch):
    """It was computed with the time of a request, not with that of the next event."""
    honest, worst = EventStore.append, 0.0

    def as_if_final(self, user, item, time):
        honest(self, user, item, time)
        self.settled += self.settled > 0

    def check(found, expected, _):
        nonlocal worst
        worst = max(worst, float((found - expected).abs().max()))

    monkeypatch.setattr(EventStore, "append", as_if_final)
    with torch.inference_mode():
        stream(make_model(MAX_ITEM_LIST_LENGTH=WIDTH, n_layers=3), 0, check, n_users=1)
    assert worst > 1e-3


def test_a_user_twice_in_a_call_at_two_times():
    model = make_model(MAX_ITEM_LIST_LENGTH=WIDTH, n_layers=3)
    table, store = model.items()[0], EventStore(WIDTH, 1)
    store.put("a", np.array([1, 2, 3]), np.array([10, 20, 30]))
    at = torch.tensor([40, 10**7])
    with torch.inference_mode():
        both = KeyValueRows(model, table, store).user_vectors(store.places(["a", "a"]), at)
        torch.testing.assert_close(both, whole(model, table, store, ["a", "a"], at))


def test_times_of_who_was_there_before_are_gone():
    store = EventStore(WIDTH, 1)
    store.put("a", np.array([1, 2]), np.array([10, 20]))
    store.put("b", np.array([3, 4]), None)
    store.append("b", 5, 7)
    assert store.times[store.places(["b"])][0, :3].tolist() == [0, 0, 7]


def test_a_long_history_keeps_its_last_events():
    store = EventStore(3, 2)
    store.put("anna", np.arange(1, 6), np.arange(11, 16))
    kept = store.histories(["anna"], with_times=True)
    assert (kept.items.tolist(), kept.times.tolist()) == ([3, 4, 5], [13, 14, 15])


def test_whoever_has_a_new_event_is_not_the_first_to_go():
    store = EventStore(3, 2)
    for user in ("anna", "bert", "anna", "carl"):
        store.append(user, 1, 5)
    assert "anna" in store and "carl" in store and "bert" not in store


def test_a_request_computes_one_row(monkeypatch):
    model = make_model(MAX_ITEM_LIST_LENGTH=WIDTH)
    store = EventStore(WIDTH, 2)
    rows = KeyValueRows(model, model.items()[0], store)
    computed = []
    project = type(model.layers[0]).project
    monkeypatch.setattr(
        type(model.layers[0]),
        "project",
        lambda self, x: computed.append(x.shape[1]) or project(self, x),
    )
    store.put("a", np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4]))
    places = store.places(["a"])

    def ask(at):
        computed.clear()
        rows.user_vectors(places, torch.tensor([at]))
        return computed[0]

    assert [ask(9), ask(11)] == [4, 1]
    store.append("a", 5, 12)
    assert [ask(12), ask(13)] == [2, 1]  # the fourth event's row, now final, and the fifth's
    for item in (6, 7, 8):
        store.append("a", item, 14)
    assert ask(15) == WIDTH  # the window has slid


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("HSTU", {}),
        ("SASRecSS", {}),
        ("SASRecSS", {"transition_steps": 3}),  # reads items, and no times
        ("SASRec", {}),
        ("LIS", {}),
    ],
)
def test_kept_users_get_what_their_histories_get(toy, model, more, in_empty_folder):
    from served import write_items

    write_items()
    text = {"item_text": {"fields": ["title"]}, "text_dimensions": 6}
    options = {"protocol": "paper"} | (text if model == "LIS" else more)
    rec = Recommender.load(trained(model, **options)["checkpoint"])
    histories, targets = all_but_last(events())
    cache = HistoryCache(rec)
    for user, part in histories.groupby("user"):
        for item, time in zip(part["item"], part["time"], strict=True):
            cache.append(user, item, time)
    users = ["u4", "u9", "u1"]
    at = targets["time"] if rec.needs_time else None
    kept = cache.recommend(users, k=5, at=at, exclude_seen=False)
    given = pd.concat([histories[histories["user"] == user] for user in users])
    expected = rec.recommend(given, k=5, at=at, exclude_seen=False)
    pd.testing.assert_frame_equal(kept, expected, atol=1e-5)


@pytest.mark.parametrize("more", [{"recent_days": [2, 8]}, {"query_time": "last"}])
def test_kept_users_of_any_hstu(toy, more):
    rec = Recommender.load(trained("HSTU", learning_rate=0.1, **more)["checkpoint"])
    histories, targets = all_but_last(events())
    cache = HistoryCache(rec)
    for user, part in histories.groupby("user"):
        for item, time in zip(part["item"], part["time"], strict=True):
            cache.append(user, item, time)
    users, at = ["u4", "u9", "u1"], targets["time"]
    kept = cache.store.width  # events a user
    given = pd.concat([histories[histories["user"] == user].tail(kept) for user in users])
    expected = rec.recommend(given, k=5, at=at)
    rec.scorer.rows_at_once = 2
    pd.testing.assert_frame_equal(cache.recommend(users, k=5, at=at), expected, atol=1e-5)


def test_an_event_without_a_time_comes_after_the_others(toy):
    cache = HistoryCache(Recommender.load(trained("SASRec", epochs=1)["checkpoint"]))
    cache.append("a", "i1", 5)
    cache.append("a", "i2")
    assert len(cache.histories(["a"]).items) == 2


def test_rows_are_kept_on_the_cpu_alone(toy):
    """Where the model computes on a GPU, kept rows would have to cross over at every request."""
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    assert HistoryCache(rec).rows is not None
    rec.device = torch.device("cuda")
    assert HistoryCache(rec).rows is None


def test_the_bound_is_kept_and_the_first_to_go_was_away_longest(toy):
    rec = Recommender.load(trained("HSTU")["checkpoint"])
    room = 3
    cache = HistoryCache(rec, max_bytes=room * HistoryCache(rec).bytes_a_user)
    for user in "abc":
        cache.put(user, [("i1", 5)])
    cache.recommend(["a"], k=2, at=6)
    cache.append("d", "i2", 7)
    assert [user in cache for user in "abcd"] == [True, False, True, True]
    assert cache.store.forgotten == 1
    kept = cache.rows.kept.numel() * 4 + sum(
        some.numel() * 8 for some in (cache.store.items, cache.store.times)
    )
    assert kept == room * cache.bytes_a_user
    with pytest.raises(InputError, match="no room for one user"):
        HistoryCache(rec, max_bytes=10)
    with pytest.raises(InputError, match="this machine has no room for"):
        HistoryCache(rec, max_bytes=1 << 58)


def test_bad_events(toy):
    cache = HistoryCache(Recommender.load(trained("HSTU")["checkpoint"]))
    cache.append("a", "i1", 5)
    for event, words in (
        (("a", "nothing", 6), "does not know: nothing"),
        (("a", "i2", 4), "4 lies before the last event of user a"),
        (("a", "i2"), "reads the times"),
        (("a", "i2", float("nan")), "time nan"),
    ):
        with pytest.raises(InputError, match=words):
            cache.append(*event)
    for asked, words in (
        (([], 2, 6), "users: nobody is named"),
        ((["b"], 2, 6), "nothing is known of the users b"),
        ((["a"], 0, 6), "k: 0"),
        ((["a"], 2, 4), "4 lies before the last event"),
        ((["a"], 2, None), "reads the time of the request"),
    ):
        with pytest.raises(InputError, match=words):
            cache.recommend(*asked)
    assert cache.recommend(["a"], k=2, at=5)["user"].tolist() == ["a", "a"]
