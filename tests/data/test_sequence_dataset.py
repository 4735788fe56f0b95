"""Sequence data against RecBole's own augmentation, and against a plain reading of the rules."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.data.dataset import SequentialDataset
from small_data import random_rows, small_config, write_inter

from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.sequence_dataset import SequenceDataset
from recbole_hstu.support.errors import InputError

WIDTH = 4


def build(rows, model="SASRec", **options):
    write_inter(rows)
    options = {"MAX_ITEM_LIST_LENGTH": WIDTH, **options}
    return create_dataset(small_config(model, **options)).build()


def as_tokens(part):
    """{(user, target time): (history items, history times, target item)} in tokens."""
    found = {}
    if not len(part):
        return found
    batch = part[np.arange(len(part))]
    token = part.field2id_token
    for row in range(len(part)):
        length = int(batch["item_length"][row])
        items = batch["item_id_list"][row]
        times = batch["timestamp_list"][row]
        assert not items[length:].any()
        assert not times[length:].any()
        key = (token["user_id"][batch["user_id"][row]], int(batch["timestamp"][row]))
        assert key not in found
        found[key] = (
            [str(token["item_id"][i]) for i in items[:length]],
            times[:length].tolist(),
            str(token["item_id"][batch["item_id"][row]]),
        )
    return found


def by_the_rules(rows, mode):
    """Leave-one-out over prefixes, written as plainly as can be."""
    users = {}
    for user, item, time in rows:
        users.setdefault(user, []).append((int(time), item))
    parts = [{}, {}, {}]
    for user, events in users.items():
        events.sort(key=lambda event: event[0])  # stable, as Python's sort is
        prefixes = [(events[max(0, i - WIDTH) : i], events[i]) for i in range(1, len(events))]
        held_out = {"valid_and_test": 2, "test_only": 1}[mode]
        held_out = min(held_out, len(prefixes) - 1)
        for place, (history, (time, item)) in enumerate(prefixes):
            from_end = len(prefixes) - 1 - place
            part = 0
            if from_end < held_out:
                part = 2 if from_end == 0 else 1
            parts[part][user, time] = ([i for _, i in history], [t for t, _ in history], item)
    return parts


histories = st.lists(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(-(2**62), 2**62)),
        min_size=1,
        max_size=9,
        unique_by=lambda event: event[1],
    ),
    min_size=1,
    max_size=5,
)


@given(histories, st.sampled_from(["valid_and_test", "test_only"]), st.randoms())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_splits_follow_the_rules_for_any_times(users, mode, random):
    rows = [(f"u{u}", f"i{i}", t) for u, events in enumerate(users) for i, t in events]
    random.shuffle(rows)
    if max(map(len, users)) < 3:
        with pytest.raises(InputError, match="nobody has the three interactions"):
            build(rows, eval_args={"split": {"LS": mode}})
        return
    parts = build(rows, eval_args={"split": {"LS": mode}})
    assert [as_tokens(part) for part in parts] == by_the_rules(rows, mode)


def exact_in_float32(rows):
    return [(user, item, (time - 1_600_000_000_000) // 1000) for user, item, time in rows]


@pytest.mark.parametrize("mode", ["valid_and_test", "test_only", "valid_only"])
def test_equal_to_recboles_augmentation(mode):
    """Element by element, wherever float32 holds the times exactly."""
    write_inter(exact_in_float32(random_rows()))
    config = small_config("SASRec", eval_args={"split": {"LS": mode}}, MAX_ITEM_LIST_LENGTH=WIDTH)
    for ours, theirs in zip(
        SequenceDataset(config).build(), SequentialDataset(config).build(), strict=True
    ):
        assert len(ours) == len(theirs)
        if not len(ours):
            continue
        mine, other = ours[np.arange(len(ours))], theirs.inter_feat
        assert set(mine) == set(other)
        my_order = np.lexsort((mine["timestamp"], mine["user_id"]))
        other_order = np.lexsort((other["timestamp"], other["user_id"]))
        for field in other:
            left, right = mine[field][my_order], other[field][other_order]
            assert torch.equal(left.double(), right.double()), field


def test_training_matrix_and_counts_equal_recboles():
    write_inter(exact_in_float32(random_rows()))
    config = small_config("SASRec", MAX_ITEM_LIST_LENGTH=WIDTH)
    ours, theirs = SequenceDataset(config).build()[0], SequentialDataset(config).build()[0]
    user_view = build(exact_in_float32(random_rows()), "HSTU")[0]
    expected = theirs.inter_matrix("csr").toarray()
    assert (ours.inter_matrix("csr").toarray() == expected).all()
    assert (user_view.inter_matrix("csr").toarray() == expected).all()
    counts = dict(enumerate(expected.sum(axis=0).astype(int).tolist()))
    assert dict(user_view.item_counter) == {item: n for item, n in counts.items() if n}


def test_times_are_exact_where_float32_is_not():
    """Two events a millisecond apart: RecBole's float32 cannot tell them apart."""
    rows = [("u", f"i{k}", 1_700_000_000_000 + t) for k, t in enumerate([3, 1, 2, 0])]
    test = build(rows)[2][[0]]
    assert test["timestamp"].dtype == test["timestamp_list"].dtype == torch.int64
    assert test["timestamp_list"][0, :3].tolist() == [1_700_000_000_000 + t for t in (0, 1, 2)]
    assert int(test["timestamp"][0]) == 1_700_000_000_003


def test_equal_times_keep_the_files_order():
    items = list(range(20))
    rows = [("u", f"i{i}", 5) for i in items] + [("v", f"i{i}", 5) for i in reversed(items)]
    test = build(rows, MAX_ITEM_LIST_LENGTH=30)[2]
    batch, token = test[np.arange(2)], test.field2id_token["item_id"]
    for row in range(2):
        order = [int(token[i][1:]) for i in batch["item_id_list"][row][:19]]
        last = int(token[batch["item_id"][row]][1:])
        assert [*order, last] in (items, items[::-1])


def test_duplicates_are_removed_in_stable_order():
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "c", 2), ("u", "d", 3)]
    first = as_tokens(build(rows, rm_dup_inter="first")[2])
    assert first == {("u", 3): (["a", "b", "c"], [1, 1, 2], "d")}
    last = as_tokens(build(rows, rm_dup_inter="last")[2])
    assert last == {("u", 3): (["b", "a", "c"], [1, 1, 2], "d")}


def test_views_share_their_test_rows():
    rows = random_rows()
    prefix, user, single = (build(rows, model) for model in ("SASRec", "HSTU", "BPR"))
    assert as_tokens(prefix[1]) == as_tokens(user[1]) == as_tokens(single[1])
    assert as_tokens(prefix[2]) == as_tokens(user[2]) == as_tokens(single[2])
    assert len(user[0]) == 40
    longest = {}
    for (name, time), row in as_tokens(prefix[0]).items():
        longest[name] = max(longest.get(name, (0, None)), (time, row))
    assert as_tokens(user[0]) == {(n, t): row for n, (t, row) in longest.items()}
    assert len(single[0]) == len(prefix[0]) + 40  # every training event, the first ones too


def test_short_users_are_counted(caplog):
    rows = [("one", "a", 1)]
    rows += [("two", i, t) for t, i in enumerate("ab")]
    rows += [("three", i, t) for t, i in enumerate("abc")]
    rows += [("four", i, t) for t, i in enumerate("abcd")]
    with caplog.at_level("INFO"):
        parts = build(rows)
    users = [{user for user, _ in as_tokens(part)} for part in parts]
    assert users == [{"two", "three", "four"}, {"four"}, {"three", "four"}]
    said = " ".join(caplog.messages)
    assert "1 of 4 users are too short for the train part" in said
    assert "3 of 4 users are too short for the valid part" in said
    assert "2 of 4 users are too short for the test part" in said


def test_a_missing_validation_part_is_told(caplog):
    rows = [(f"u{u}", f"i{i}", i) for u in range(3) for i in range(3)]
    with caplog.at_level("INFO"):
        parts = build(rows)
    assert [len(part) for part in parts] == [3, 0, 3]
    assert "3 of 3 users are too short for the valid part" in " ".join(caplog.messages)


@pytest.mark.parametrize("index", [[2, 0], np.array([2, 0]), torch.tensor([2, 0]), slice(0, 2)])
def test_rows_are_picked_by_any_index(index):
    part = build(random_rows())[2]
    everything, picked = part[np.arange(len(part))], part[index]
    for field in everything:
        assert torch.equal(picked[field], everything[field][index])


def test_normalisation_and_missing_numbers_leave_times_alone():
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    rows = [("u", f"i{k}", "" if k == 1 else k, 1_700_000_000_000 + k) for k in range(5)]
    write_inter(rows, header=header)
    fields = ["user_id", "item_id", "rating", "timestamp"]
    config = small_config("SASRec", normalize_all=True, load_col={"inter": fields})
    test = create_dataset(config).build()[2][[0]]
    assert test["timestamp"].tolist() == [1_700_000_000_004]
    ratings = test["rating_list"][0, :4]
    assert ratings.tolist() == pytest.approx([0.0, 9 / 16, 0.5, 0.75])  # the missing one: the mean


def test_masks_are_the_visible_history():
    write_inter(random_rows())
    config = small_config("BPR", mask_seen=True, MAX_ITEM_LIST_LENGTH=WIDTH, eval_batch_size=7)
    _, _, test = make_loaders(config, create_dataset(config))
    rows = 0
    for interaction, (row, item), target_row, target in test:
        history = interaction["item_id_list"]
        assert history.shape[1] == WIDTH
        for r in range(len(history)):
            assert set(item[row == r].tolist()) == set(history[r].tolist()) - {0}
        assert torch.equal(target, interaction["item_id"])
        assert torch.equal(target_row, torch.arange(len(history)))
        rows += len(history)
    assert rows == 40


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val_interval": {"timestamp": "[3,inf)"}}, "val_interval: 3 of 9"),
        ({"user_inter_num_interval": "[5,inf)"}, "item_inter_num_interval: 4 of 9"),
        ({"rm_dup_inter": "first"}, "rm_dup_inter: 1 repeated"),
    ],
)
def test_what_filters_leave_out_is_counted(options, said, caplog):
    rows = [("one", i, t) for t, i in enumerate("abcda", start=2)]
    rows += [("two", i, t) for t, i in enumerate("abcd", start=1)]
    with caplog.at_level("INFO"):
        build(rows, **options)
    assert f"{said} interactions left out" in " ".join(caplog.messages)


def test_a_column_that_is_not_loaded_need_not_be_dropped():
    part = build(random_rows(), unused_col={"inter": ["rating", "timestamp"]})[2]
    assert "timestamp" not in part[[0]]


def test_nobody_is_short_for_a_part_that_is_not_asked_for(caplog):
    split = {"eval_args": {"split": {"LS": "valid_only"}}}
    with caplog.at_level("INFO"):
        build(random_rows(), **split)
    assert "too short" not in " ".join(caplog.messages)


@pytest.mark.parametrize("name", ["shop[1]", "a?b*"])
def test_a_name_that_looks_like_a_pattern(name, in_empty_folder):
    write_inter(random_rows(), name=name)
    assert load_dataset(small_config(dataset=name)).dataset_name == name


@pytest.mark.parametrize(
    ("model", "options", "hint"),
    [
        ("HSTU", {}, "; see --windows=all"),
        ("COBRALite", {}, ""),
        ("HSTU", {"windows": "all"}, None),
        ("ItemGraph", {}, None),
        ("SASRec", {}, None),
    ],
)
def test_targets_that_a_row_a_user_leaves_out_are_counted(
    in_empty_folder, caplog, model, options, hint
):
    caplog.set_level("INFO")
    rows = random_rows()
    build(rows, model, **options)
    targets = [count - 3 for count in Counter(user for user, _, _ in rows).values()]
    left_out = sum(max(0, count - WIDTH) for count in targets)
    said = [line for line in caplog.messages if "teach nothing" in line]
    expected = f"{left_out} of {sum(targets)} targets lie before a user's last {WIDTH} and teach"
    assert said == ([] if hint is None else [f"{expected} nothing{hint}"])


def test_a_column_that_load_col_names_and_nobody_has(toy, caplog):
    columns = {"inter": ["user_id", "item_id", "timestamp", "ratng"]}
    create_dataset(small_config("Pop", load_col=columns))
    assert "toy.inter: has no column ratng, which load_col names" in caplog.text
