"""Models of other kinds than sequential ones are judged on the same users, masks and candidates."""

import logging

import numpy as np
import pytest
import torch
from small_data import random_rows, small_config, small_options, write_inter

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.sampled_candidates import SampledCandidates
from recbole_hstu.quick_start import load, make_loaders, run
from recbole_hstu.studies.plan import named_models, plan_runs


def judged(model, **options):
    """Test users and targets, and the targets that are masked; by tokens."""
    config = small_config(model, mask_seen=True, mask_history="all", **options)
    data = load_dataset(config)
    found, masked = {}, set()
    for interaction, seen, rows, targets in make_loaders(config, data)[2]:
        users = data.id2token(data.uid_field, interaction[data.uid_field])
        barred = set(zip(*(part.tolist() for part in seen), strict=True))
        for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
            found[users[row]] = str(data.id2token(data.iid_field, target))
            masked |= {users[row]} if (row, target) in barred else set()
    return found, masked


def test_users_are_ranked_as_their_last_events_are(toy, caplog):
    """Some have two events, and some had their last item before."""
    rows = random_rows(n_users=12)
    again = [(user, item, time + 10**10) for user, item, time in rows[::9]]
    few = [(f"few{n}", f"i{n + k}", 5 * 10**12 + k) for n in range(3) for k in range(2)]
    write_inter([*rows, *again, *few])
    caplog.set_level(logging.INFO)
    # A random order lays no histories; a file whose times all rise has but one order.
    by_user = {"order": "RO", "split": {"LS": "valid_and_test"}, "group_by": "user"}
    found, masked = judged("BPR", eval_args=by_user)
    assert "3 of 15 users have fewer than two earlier events" in caplog.text
    assert set(found) == {f"u{n}" for n in range(12)} == set(judged("SASRec")[0])
    assert judged("SASRec")[1] == {user for user, item, _ in again if found_again(rows, user, item)}
    assert masked
    assert masked <= {user for user, *_ in again}


def found_again(rows, user, item):
    return (user, item) in {(u, i) for u, i, _ in rows}


def pairs_of(events):
    return zip(events["user_id"].tolist(), events["item_id"].tolist(), strict=True)


@pytest.mark.parametrize("mode", ["uni20", "pop20"])
def test_sampled_candidates_are_the_same_for_all(toy, mode):
    """Models, sizes of batches, and one evaluation after another."""

    def asked(model, **options):
        config = small_config(model, eval_args={"mode": mode}, mask_seen=False, **options)
        data = load_dataset(config)
        _, valid, test = make_loaders(config, data)
        passes = [[pair for found, *_ in test for pair in pairs_of(found)] for _ in range(2)]
        assert passes[0] == passes[1]
        events = set(pairs_of(data.inter_feat))
        own = sum(pair in events for pair in passes[0])
        assert own > 2 * len(test._dataset)  # the target, and some of the user's other items
        return passes[0], [pair for found, *_ in valid for pair in pairs_of(found)]

    first = asked("BPR")
    assert first == asked("SASRec", eval_batch_size=50) == asked("ItemGraph")
    assert len(set(first[0])) > len(first[0]) // 2


def test_candidates_are_all_items_but_the_target(toy):
    """Uniform ones alike often, others as often as their events say."""
    config = small_config("BPR")
    data = load_dataset(config)
    make_loaders(config, data)
    counts = np.bincount(data.inter_feat["item_id"].numpy(), minlength=data.item_num)
    for kind, share in (("uniform", (counts > -1) * 1.0), ("popularity", counts * 1.0)):
        sampler = SampledCandidates(["test"], data, kind)
        share[[0, 3]] = 0
        drawn = sampler.sample_by_user_ids(np.array([1, 5]), np.array([3, 3]), 20_000)
        assert not torch.equal(drawn[::2], drawn[1::2])  # of two users
        found = drawn.bincount(minlength=data.item_num).numpy() / len(drawn)
        np.testing.assert_allclose(found, share / share.sum(), atol=0.005)


def test_a_checkpoint_that_may_have_seen_what_it_is_tested_on(toy, caplog):
    file = run("HSTU", "toy", config_dict=small_options(protocol="recbole", epochs=1))["checkpoint"]

    def said(**options):
        caplog.clear()
        load(file, config_dict=options)
        return "it may have seen what" in caplog.text

    assert not said()
    assert not said(
        protocol="paper", topk=[5], valid_metric="NDCG@5"
    )  # tests on what had been held out for the test
    assert said(tie_order="hash")
    assert said(eval_args={"split": {"LS": "valid_only"}})


def test_unlike_epochs_without_validation_are_told(caplog):
    def said(**options):
        caplog.clear()
        plan_runs(named_models(["HSTU", "SASRec", "Pop"]), "ml-100k", (), options, None)
        return "the rows have unlike epochs (HSTU 101, SASRec 300)" in caplog.text

    assert said(protocol="paper")
    assert not said(protocol="paper", epochs=20)
    assert not said(protocol="recbole")
