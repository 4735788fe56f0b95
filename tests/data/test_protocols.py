"""The protocols' splits, masks and candidates, by hand on six users and against plain rules."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_data import random_rows, small_config, small_options, write_inter

from recbole_hstu import quick_start
from recbole_hstu.cli import main
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.support.errors import InputError

MODELS = ("SASRec", "HSTU", "BPR")  # a row a prefix, a user, an interaction

SIX = """
    a: 1@10 2@20 3@110 4@120 5@210 6@220
    b: 1@30 2@40 3@50
    c: 2@60 1@150
    d: 3@130 4@140 7@230
    e: 5@205
    f: 1@15 4@99 2@100
"""


def six_users(text=SIX):
    rows = []
    for line in text.split("\n"):
        user, _, events = line.strip().partition(":")
        rows += [(user, f"i{item}", time) for item, time in (e.split("@") for e in events.split())]
    return write_inter(rows)


def built(model, **options):
    config = small_config(model, **options)
    return create_dataset(config).build()


def rows_of(part):
    """{user: [(history, target), ...]} in items' tokens without their `i`."""
    found = {}
    if not len(part):
        return found
    batch, token = part[np.arange(len(part))], part.field2id_token
    item = [name[1:] for name in token["item_id"]]
    for row in range(len(part)):
        history = "".join(item[i] for i in batch["item_id_list"][row] if i)
        user = token["user_id"][batch["user_id"][row]]
        found.setdefault(user, []).append((history, item[batch["item_id"][row]]))
    return {user: sorted(rows) for user, rows in found.items()}


def trained_events(part):
    """(user, item) tokens of the interactions a part trains on, whatever its view."""
    matrix, token = part.inter_matrix(), part.field2id_token
    pairs = zip(token["user_id"][matrix.row], token["item_id"][matrix.col], strict=True)
    return sorted((str(user), str(item)) for user, item in pairs)


def test_a_cut_in_time_by_hand(caplog):
    six_users()
    with caplog.at_level("INFO"):
        parts = {
            model: built(model, protocol="time_split", eval_args={"split": {"TS": [100, 200]}})
            for model in MODELS
        }
    assert rows_of(parts["SASRec"][0]) == {
        "a": [("1", "2")],
        "b": [("1", "2"), ("12", "3")],
        "f": [("1", "4")],
    }
    assert rows_of(parts["HSTU"][0]) == {"a": [("1", "2")], "b": [("12", "3")], "f": [("1", "4")]}
    for train, valid, test in parts.values():
        assert trained_events(train) == [
            *(("a", "i1"), ("a", "i2"), ("b", "i1"), ("b", "i2"), ("b", "i3")),
            *(("f", "i1"), ("f", "i4")),
        ]
        assert rows_of(valid) == {
            "a": [("123", "4")],
            "c": [("2", "1")],
            "d": [("3", "4")],
            "f": [("14", "2")],
        }
        assert rows_of(test) == {"a": [("12345", "6")], "d": [("34", "7")]}
    said = " ".join(caplog.messages)
    assert "8 events before 100 train: 3 users; 1 more have no earlier event" in said
    assert "6 events before 200 validate: 4 users; 0 more" in said
    assert "4 events from 200 on test: 2 users; 1 more" in said


def test_what_training_does_not_know_is_counted(caplog):
    six_users()
    for candidates, missed in (("all", ""), ("training", " (missed: they are no candidates)")):
        caplog.clear()
        options = {"eval_args": {"split": {"TS": [100, 200]}}, "candidates": candidates}
        config = small_config(
            "HSTU", protocol="time_split", topk=[2], valid_metric="Hit@2", **options
        )
        with caplog.at_level("INFO"):
            make_loaders(config, create_dataset(config))
        said = " ".join(caplog.messages)
        assert f"test: of 2 targets 2 are items that training does not know{missed}, 1 are" in said
        assert "validation: of 4 targets 0 are items" in said
        assert ("candidates: training: 4 of 7 items" in said) == bool(missed)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=8),
        min_size=2,
        max_size=6,
    ),
    st.sampled_from(MODELS),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_after_the_cut_trains(users, model):
    rows = [(f"u{u}", f"i{i}", t) for u, events in enumerate(users) for i, t in events]
    histories = {}
    for user, item, time in rows:
        histories.setdefault(user, []).append((time, item))
    for events in histories.values():
        events.sort(key=lambda event: event[0])
    ordered = sorted(time for *_, time in rows)
    assume(len(rows) >= 5)
    first, second = (ordered[round(len(rows) * share)] for share in (0.6, 0.8))
    before = {u: sum(t < first for t, _ in events) for u, events in histories.items()}
    later = [sum(t < second for t, _ in events) for events in histories.values()]
    assume(ordered[0] < first < second)
    assume(max(before.values()) > 1)
    assume(any(len(e) > max(n, 1) for e, n in zip(histories.values(), later, strict=True)))
    write_inter(rows)
    train, valid, test = built(model, protocol="time_split", eval_args={"split": {"TS": [3, 1, 1]}})
    expected = [(u, i) for u, n in before.items() if n > 1 for _, i in histories[u][:n]]
    assert trained_events(train) == sorted(expected)
    for part, start, end in ((valid, first, second), (test, second, 31)):
        wanted = {}
        for user, events in histories.items():
            inside = [k for k, (t, _) in enumerate(events) if start <= t < end and k]
            if inside:
                items = [item[1:] for _, item in events[: inside[-1] + 1]]
                wanted[user] = [("".join(items[:-1]), items[-1])]
        assert rows_of(part) == wanted


def test_the_last_events_train():
    six_users("""
        a: 1@1 2@2 3@3 4@4 5@5 6@6 7@7
        b: 8@1 3@2 4@3 5@4 9@5
    """)
    for model in MODELS:
        train, valid, test = built(model, protocol="rectools", train_events=3)
        assert trained_events(train) == [
            *(("a", "i3"), ("a", "i4"), ("a", "i5"), ("b", "i3"), ("b", "i4"), ("b", "i8"))
        ]
        assert rows_of(valid) == {"a": [("12345", "6")], "b": [("834", "5")]}
        assert rows_of(test) == {"a": [("123456", "7")], "b": [("8345", "9")]}
        assert dict(train.item_counter) == dict(
            zip(train.token2id("item_id", ["i3", "i4", "i5", "i8"]), [2, 2, 1, 1], strict=True)
        )
    prefixes = rows_of(built("SASRec", protocol="rectools", train_events=3)[0])
    assert prefixes == {"a": [("3", "4"), ("34", "5")], "b": [("8", "3"), ("83", "4")]}
    assert rows_of(built("HSTU", protocol="rectools", train_events=2)[0])["a"] == [("4", "5")]


def test_the_whole_history_is_masked(toy):
    config = small_config("HSTU", protocol="rectools", MAX_ITEM_LIST_LENGTH=2, eval_batch_size=7)
    data = create_dataset(config)
    wanted = {}
    for user, item, time in random_rows():
        wanted.setdefault(user, []).append((time, item))
    _, valid, test = make_loaders(config, data)
    for loader, held_out in ((valid, 2), (test, 1)):
        users = 0
        for interaction, (row, item), _, _ in loader:
            assert interaction["item_id_list"].shape[1] == 2
            for place, user in enumerate(data.field2id_token["user_id"][interaction["user_id"]]):
                masked = set(data.field2id_token["item_id"][item[row == place]])
                assert masked == {i for _, i in sorted(wanted[user])[:-held_out]}
                users += 1
        assert users == 40


@pytest.mark.parametrize("model", ["HSTU", "Pop"])
def test_a_checkpoint_is_judged_by_another_protocol(toy, model, caplog):
    """Ranks equal Python's sort of the candidates alone."""
    file = quick_start.run(model, "toy", config_dict=small_options(model, epochs=1))["checkpoint"]
    options = {"protocol": "rectools", "train_events": 2, "topk": [5]}
    given = {"config_dict": {**options, "valid_metric": "Hit@5"}}
    found = quick_start.evaluate(file, **given)["test_result"]
    assert "it may have seen" not in " ".join(caplog.messages)  # the same items are held out
    config, network, data, train, _, test = quick_start.load(file, **given)
    assert (config["mask_history"], config["candidates"]) == ("all", "training")
    allowed = set(train._dataset.inter_matrix().col.tolist())
    assert 5 < len(allowed) < data.item_num - 1
    ranks = []
    for interaction, (row, item), _, target in test:
        with torch.no_grad():
            scores = network.full_sort_predict(interaction).view(len(target), -1).tolist()
        for place, wanted in enumerate(target.tolist()):
            rivals = allowed - set(item[row == place].tolist())
            order = sorted(rivals, key=lambda i: (-scores[place][i], i))
            ranks.append(order.index(wanted) + 1 if wanted in order else MISSED)
    assert MISSED in ranks
    ranks = np.array(ranks)
    assert found["hit@5"] == pytest.approx((ranks <= 5).mean(), abs=1e-6)
    inverse = np.where(ranks == MISSED, 0, 1 / ranks).mean()
    assert found["mrr"] == pytest.approx(inverse, abs=1e-6)
    later = {"protocol": "time_split", "topk": [5], "valid_metric": "Hit@5"}
    quick_start.evaluate(file, config_dict=later)
    assert "it may have seen what {'TS': [0.8, 0.1, 0.1]} tests on" in caplog.text


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", ["rectools", "time_split"])
def test_every_kind_of_model_runs_under_every_protocol(toy, model, protocol):
    options = small_options(model, protocol=protocol, epochs=1)
    options |= {"valid_metric": "Hit@5"}
    result = quick_start.run(model, "toy", config_dict=options)
    assert result["record"].protocol == protocol
    users = result["ranks"].users.tolist()
    assert len(set(users)) == len(users) == len(result["ranks"].ranks)
    assert 0 < result["test_result"]["mrr"] <= 1


def test_users_of_a_cut_are_those_of_every_model(toy):
    parts = {model: built(model, protocol="time_split") for model in MODELS}
    for one, other in pairwise(parts.values()):
        for place in (1, 2):
            assert rows_of(one[place]) == rows_of(other[place])
        assert trained_events(one[0]) == trained_events(other[0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"protocol": "nope"}, "known are paper, recbole, rectools, time_split"),
        ({"TS": [200, 100]}, "the first cut (200) must lie before the second one"),
        ({"TS": [100, 300]}, "leave no event to train or to test on; the data's times go from 10"),
        ({"TS": [10, 100]}, "leave no event to train"),
        ({"TS": [11, 100]}, "no user has an event before 11 and one earlier than that"),
        ({"TS": [0.9, 0.1]}, "expected three shares, as in [0.8, 0.1, 0.1], or two whole numbers"),
        ({"TS": [0.9, 0.2, -0.1]}, "expected three shares"),
        ({"TS": [1, "b", 2]}, "expected three shares"),
        ({"TS": [0.98, 0.01, 0.01]}, "must lie before the second one"),
        ({"TS": 3}, "should be a list"),
        ({"load_col": {"inter": ["user_id", "item_id"]}}, "no time column 'timestamp' is loaded"),
        ({"candidates": "some"}, "candidates: 'some' must be one of all, training"),
        ({"train_events": 1}, "train_events: 1 must be a whole number from 2 on"),
        (
            {"eval_args": {"mode": "uni5"}, "candidates": "training"},
            "candidates: training goes with eval_args mode full, not uni5; add --candidates=all",
        ),
        (
            {"load_col": {"inter": ["user_id", "item_id"]}, "tie_order": "hash"},
            "has no column 'timestamp' that is loaded",
        ),
    ],
)
def test_bad_protocols_are_told(options, reason):
    six_users()
    options = {"protocol": "time_split", "topk": [2], "valid_metric": "Hit@2", **options}
    if "TS" in options:
        options["eval_args"] = {"split": {"TS": options.pop("TS")}}
    with pytest.raises(InputError) as error:
        quick_start.run("HSTU", "toy", config_dict=small_options("HSTU", **options))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_models_with_data_sets_of_their_own_refuse_what_they_cannot_keep():
    for protocol, what in (("time_split", "eval_args.split: TS"), ("rectools", "train_events")):
        options = {"protocol": protocol, "limit_users": 25, "show_progress": False}
        with pytest.raises(InputError, match=f"{what}: for sequential and general models only"):
            quick_start.run("CFKG", "ml-100k", config_dict=options)


def test_evaluate_reads_files_of_options_the_last_and_the_command_line_win(toy, capsys):
    file = quick_start.run("HSTU", "toy", config_dict=small_options(epochs=1))["checkpoint"]
    Path("more.yaml").write_text("topk: [3]\nmetrics: [Hit]\nvalid_metric: Hit@3\n")
    assert main(["evaluate", str(file), "--config_files=more.yaml"]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()} == {"hit@3", "mrr"}
    assert main(["evaluate", str(file), "--config_files=more.yaml", "--topk=[2, 3]"]) == 0
    assert "hit@2" in capsys.readouterr().out
    Path("later.yaml").write_text("topk: [2, 3]\n")
    assert main(["evaluate", str(file), "--config_files=more.yaml later.yaml"]) == 0
    assert "hit@2" in capsys.readouterr().out
    Path("split.yaml").write_text("eval_args: {split: {LS: test_only}}\n")
    mode = "--eval_args={mode: uni5}"
    assert main(["evaluate", str(file), "--config_files=split.yaml", mode]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"test"}
    with pytest.raises(InputError, match="config_files"):  # the command line alone reads it
        quick_start.evaluate(file, config_dict={"config_files": ["more.yaml"]})
