"""What the service answers is what the library answers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import pytest
import torch
from running_service import running, small_models
from waiting import until

from recbole_hstu.service import batcher
from recbole_hstu.service.messages import Recommend

HISTORY = [["i1", 5], ["i2", 7]]
OTHER = [["i4", 3], ["i1", 3], ["i9", 8]]


def expected(table, user=0):
    rows = table[table["user"] == user]
    return list(zip(rows["item"], rows["score"].round(4), strict=True))


def listed(rows):
    return [(row["item"], np.float32(row["score"]).round(4)) for row in rows]


def test_lists_are_those_of_the_recommender(service, models):
    options = {"k": 4, "at": [20, 30], "exclude": ["i3"], "exclude_seen": False}
    histories = [HISTORY, OTHER]
    status, _, found = service.post("/recommend", {"histories": histories, **options})
    assert status == 200
    table = models[0].rec.recommend(histories, **options)
    assert [listed(rows) for rows in found["lists"]] == [expected(table, user) for user in (0, 1)]
    assert found["unknown"] == 0
    assert found["lists"][0][0]["title"].split()[0] in "red green blue small large old new quick"


def test_the_model_and_the_candidates_of_a_request(service, models):
    asked = {"histories": [["i1", "i2"]], "candidates": ["i5", "i6", "i1"], "k": 2}
    _, _, found = service.post("/recommend", {**asked, "model": "sasrecss"})
    table = models[1].rec.recommend([["i1", "i2"]], k=2, candidates=["i5", "i6", "i1"])
    assert listed(found["lists"][0]) == expected(table)


def test_events_are_kept_for_later_requests(service, models):
    for events in ([["i1", 5]], [["i2", 7], ["gone", 8], ["i9", 9]]):
        asked = {"user": "anna", "events": events, "on_unknown": "ignore"}
        status, _, added = service.post("/events", asked)
    counts = {"added": 2, "unknown": 1, "kept": 3}
    named = [{"model": model.name, **counts} for model in models]
    assert (status, added) == (200, {"user": "anna", "models": named})
    for model, at in (("hstu", 20), ("sasrecss", None)):
        _, _, found = service.post(
            "/recommend", {"users": ["anna"], "k": 3, "at": at, "model": model}
        )
        rec = next(one.rec for one in models if one.name == model)
        table = rec.recommend([[("i1", 5), ("i2", 7), ("i9", 9)]], k=3, at=at)
        assert listed(found["lists"][0]) == expected(table)


def test_batches_of_users_change_no_list(models, monkeypatch):
    one = models[1]
    asked = [Recommend(histories=[["i1", f"i{n}"], [f"i{n + 1}"]], k=29) for n in range(2, 5)]
    expected = one.recommend(asked)
    monkeypatch.setattr(one.rec.scorer, "rows_at_once", 2)
    found = one.recommend(asked)
    named = [[[row["item"] for row in rows] for rows in one["lists"]] for one in expected]
    assert [[[row["item"] for row in rows] for rows in one["lists"]] for one in found] == named


def test_all_events_of_a_request_are_kept_or_none(service, models):
    service.post("/events", {"user": "bert", "events": [["i1", 5]]})
    for events, words in (
        ([["i2", 9], ["gone", 9]], "does not know: gone"),
        ([["i2", 9], ["i3", 8]], "oldest first"),
        ([["i2", 4]], "4 lies before the last event of user bert"),
        (["i2"], "reads the times"),
    ):
        status, _, problem = service.post("/events", {"user": "bert", "events": events})
        assert status == 409
        assert words in problem["detail"]
        assert problem["detail"].startswith("model hstu: ")  # the first one that cannot
    for model in models:
        assert model.cache.histories(["bert"]).items.tolist() == [model.rec.ids(["i1"])[0]]


def test_users_without_known_events_get_an_empty_list(service):
    asked = {"histories": [[["gone", 1]], HISTORY], "at": 20, "k": 2, "on_unknown": "ignore"}
    status, _, found = service.post("/recommend", asked)
    assert status == 200
    assert [len(rows) for rows in found["lists"]] == [0, 2]
    assert found["unknown"] == 1


@pytest.mark.parametrize("rows_at_once", [2, 100])
def test_a_contribution_is_the_score_with_the_event_minus_the_score_without(
    service, models, rows_at_once, monkeypatch
):
    monkeypatch.setattr(models[0].rec.scorer, "rows_at_once", rows_at_once)
    asked = {"history": OTHER, "items": ["i5", "i6"], "at": 20}
    _, _, found = service.post("/contributions", asked)
    scores = models[0].rec.scores
    events = [tuple(event) for event in OTHER]
    for place, row in enumerate(found["contributions"]):
        without = events[:place] + events[place + 1 :]
        expected = scores(events, ["i5", "i6"], 20) - scores(without, ["i5", "i6"], 20)
        np.testing.assert_allclose(row, expected, atol=1e-6)
    asked["history"] = OTHER[:1]
    assert service.post("/contributions", asked)[2] == {"contributions": [None]}


def test_contributions_of_events_that_nobody_knows_are_null(service):
    asked = {"history": OTHER, "items": ["i5"], "at": 20}
    first, second, third = service.post("/contributions", asked)[2]["contributions"]
    asked["history"] = [OTHER[0], ["gone", 3], *OTHER[1:]]
    status, _, problem = service.post("/contributions", asked)
    assert (status, "on_unknown" in problem["detail"]) == (409, True)
    asked["on_unknown"] = "ignore"
    found = service.post("/contributions", asked)[2]["contributions"]
    assert found == [first, None, second, third]
    for history in ([["gone", 3], OTHER[2]], [["gone", 3]]):
        asked["history"] = history
        found = service.post("/contributions", asked)[2]["contributions"]
        assert found == [None] * len(history)
    status, _, problem = service.post("/contributions", {**asked, "items": ["gone"]})
    assert (status, "does not know: gone" in problem["detail"]) == (409, True)


def test_an_item_without_a_score_has_no_contributions(service, models, monkeypatch):
    """Beams leave -inf to the items that they do not reach."""
    scorer = models[0].rec.scorer
    honest = scorer.scores

    def beams(prepared, items):
        scores = honest(prepared, items)
        scores[-1, 1] = -np.inf
        return scores

    monkeypatch.setattr(scorer, "scores", beams)
    asked = {"history": HISTORY, "items": ["i3", "i8"], "at": 20}
    status, _, found = service.post("/contributions", asked)
    assert status == 409
    assert "the model gives no score to i8" in str(found)


def test_similar_items(service, models):
    _, _, found = service.get("/similar/i1?k=3")
    table = models[0].rec.similar_items("i1", 3)
    assert [row["item"] for row in found["items"]] == table["item"].tolist()
    assert service.get("/similar/gone")[0] == 404
    assert service.get("/similar/i1?k=30")[0] == 409
    assert service.get("/similar/i1?model=other")[0] == 404


def test_items_are_searched_by_every_word(service):
    titles = [row["title"] for row in service.get("/items?query=THING2+red")[2]["items"]]
    assert titles
    assert all("red" in title and "thing2" in title for title in titles)
    assert len(service.get("/items?limit=5")[2]["items"]) == 5


def test_models_that_know_users_by_name(in_empty_folder):
    """Events that were sent are only left out of the list."""
    (bpr,) = small_models("BPR")
    with running([bpr]) as service:
        first = service.post("/recommend", {"users": ["u1", "u2"], "k": 3})[2]["lists"]
        table = bpr.rec.recommend_users(["u1", "u2"], k=3, exclude_seen=False)
        assert [listed(rows) for rows in first] == [expected(table, user) for user in ("u1", "u2")]
        best = first[0][0]["item"]
        service.post("/events", {"user": "u1", "events": [[best, 5]]})
        again = service.post("/recommend", {"users": ["u1", "u2"], "k": 3})[2]["lists"]
        assert listed(again[0])[:2] == listed(first[0])[1:]
        assert listed(again[1]) == listed(first[1])
        status, _, problem = service.post("/recommend", {"users": ["u1", "nobody"]})
        assert (status, "by name" in problem["detail"]) == (409, True)


def test_requests_at_once_are_computed_together_and_fail_alone(models, monkeypatch):
    """The first one is held until the others wait."""
    kind, sizes, held, waiting = type(models[0]), [], threading.Event(), threading.Event()
    honest = kind.recommend

    def slow(self, requests):
        waiting.set()
        assert held.wait(20)
        sizes.append(len(requests))
        return honest(self, requests)

    monkeypatch.setattr(kind, "recommend", slow)
    asked = [
        {"histories": [HISTORY if n % 2 else OTHER], "at": 20 + n, "k": 2 + n % 3} for n in range(8)
    ]
    asked[3]["histories"] = [[["gone", 1]]]
    monkeypatch.setattr(batcher, "AT_ONCE", 4)
    with running(models[:1]) as service, ThreadPoolExecutor(8) as pool:
        first = pool.submit(service.post, "/recommend", asked[0])
        assert waiting.wait(20)
        others = [pool.submit(service.post, "/recommend", one) for one in asked[1:]]
        until(lambda: "requests_waiting 9.0" in service.get("/metrics")[2])  # this one, too
        held.set()
        answers = [one.result() for one in (first, *others)]
    assert [status for status, _, _ in answers] == [200] * 3 + [409] + [200] * 4
    assert sizes == [1, 4, 3]
    for one, (status, _, found) in zip(asked, answers, strict=True):
        if status == 200:
            table = models[0].rec.recommend(one["histories"], k=one["k"], at=one["at"])
            assert listed(found["lists"][0]) == expected(table)


def test_an_index_is_asked_for_lists_of_one_length(models):
    """What it finds for a list depends on how long that is, not on others of the batch."""
    asked = []

    class Index:
        def best(self, rec, prepared, k, seen):
            asked.append((len(prepared), k))
            return rec.best(prepared, k, seen, torch.arange(1, rec.scorer.n_items))

    model = copy(models[0])
    model.rec = copy(model.rec)
    model.rec.index = Index()
    found = model.recommend([Recommend(histories=[HISTORY], at=20, k=k) for k in (2, 5, 2)])
    assert [len(one["lists"][0]) for one in found] == [2, 5, 2]
    assert sorted(asked) == [(1, 5), (2, 2)]
    best = [row["item"] for row in found[1]["lists"][0]]
    (without,) = model.recommend([Recommend(histories=[HISTORY], at=20, k=2, exclude=best[:2])])
    assert [row["item"] for row in without["lists"][0]] == best[2:4]
    assert len(asked) == 3
