"""Runs that cannot stand in one table are named, with what differs."""

from dataclasses import replace

import pytest

from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.records.same_terms import check_same_terms
from recbole_hstu.support.errors import InputError

JUDGED = {"mask_seen": True, "mask_history": "visible", "MAX_ITEM_LIST_LENGTH": 50}


def run_of(label, seed=1, **config):
    config = JUDGED | {"learning_rate": 1e-3, "data_path": label} | config
    return RunRecord(
        model="HSTU", label=label, dataset="toy", protocol="recbole", seed=seed, config=config
    )


def without(key):
    """A run of a release that did not know an option yet."""
    run = run_of("old")
    return replace(run, config={k: v for k, v in run.config.items() if k != key})


def with_mrr(label):
    return replace(run_of(label), metrics={"hit@10": 0.1, "mrr": 0.1})


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (
            (run_of("A"), run_of("B", mask_seen=False)),
            "B and A were not judged alike: mask_seen is False and True; keep them",
        ),
        (
            (run_of("A"), run_of("B", MAX_ITEM_LIST_LENGTH=20)),
            "not judged alike: MAX_ITEM_LIST_LENGTH is 20 and 50",
        ),
        ((run_of("A"), run_of("B"), run_of("A")), "A: two runs with seed 1; move one of them"),
        (
            (without("mask_seen"), run_of("A"), run_of("B", mask_seen=False)),
            "B and A were not judged alike: mask_seen is False and True",
        ),
        (
            (replace(run_of("A"), metrics={"hit@10": 0.1}), with_mrr("B")),
            "A was asked for all test items of a user at once, B for each alone",
        ),
        (
            (run_of("A"), run_of("A", 2, learning_rate=1e-2)),
            r"A: the runs of one row differ, learning_rate is 0.01 and 0.001 \(seeds 2 and 1\)",
        ),
    ],
)
def test_what_is_refused(runs, message):
    with pytest.raises(InputError, match=message):
        check_same_terms(runs)


def test_what_may_stand_together():
    wide = {"mask_history": "all", "MAX_ITEM_LIST_LENGTH": 20}
    check_same_terms([run_of("A"), run_of("A", 2), run_of("B", learning_rate=1.0)])
    check_same_terms([run_of("A", topk=[10]), run_of("A", 2, topk=[10, 50], tail_ratio=0.2)])
    failed = replace(run_of("A", 2, learning_rate=9.0), status="failed", error="diverged")
    check_same_terms([run_of("A"), failed])
    check_same_terms([run_of("A"), with_mrr("B"), with_mrr("C")])  # A failed
    check_same_terms([run_of("A", mask_history="all"), run_of("B", **wide)])
    old = RunRecord(model="HSTU", label="C", dataset="toy", protocol="recbole", seed=1)
    check_same_terms([run_of("A", tie_order="file"), run_of("B", tie_order="hash")])
    check_same_terms([run_of("A"), old])  # what a record does not know cannot differ
