"""A prepared set against the files it was made from: the same ids, order, split and batches."""

import logging
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset
from small_data import random_rows, small_config, write_inter
from waiting import until

from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.exact_times import ExactTimes
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.data.prepared import arrow_files, prepare
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.file_lock import one_at_a_time

HEADER = "user_id:token\titem_id:token\trating:float\ttags:token_seq\ttimestamp:float"
FIELDS = {"inter": ["user_id", "item_id", "rating", "tags", "timestamp"]}


def loaded(model="HSTU", **options):
    """A data set from its files and the same one from a prepared set, made and then found."""
    return [
        create_dataset(small_config(model, prepared=how, **options))
        for how in ("never", "always", "always")
    ]


def assert_equal(one, other):
    """Field by field, down to the type."""
    assert list(one) == list(other)
    for field in one:
        left, right = one[field], other[field]
        assert left.dtype == right.dtype, field
        assert np.array_equal(left, right, equal_nan=True), field


def assert_same(model, **options):
    plain, *prepared = loaded(model, **options)
    for data in prepared:
        assert str(data) == str(plain)
        for field, tokens in plain.field2id_token.items():
            assert list(tokens) == list(data.field2id_token[field])
            assert data.token2id(field, str(tokens[-1])) == len(tokens) - 1
    parts, *others = [data.build() for data in (plain, *prepared)]
    for found in others:
        for ours, theirs in zip(found, parts, strict=True):
            assert len(ours) == len(theirs)
            if len(ours):
                assert_equal(theirs[np.arange(len(theirs))], ours[np.arange(len(ours))])


cells = st.tuples(
    st.sampled_from(["u", "NA", "1", "01", "\N{SNOWMAN}"]),
    st.sampled_from(["a", "b b", "1", "null", "-"]),
    st.sampled_from(["1", "2.50", "1e-3", "", "4"]),
    st.sampled_from(["x y", "", "y"]),
    st.one_of(st.integers(0, 5), st.integers(-(2**62), 2**62)),
)
choices = st.sampled_from(
    [
        {},
        {"rm_dup_inter": "last"},
        {"tie_order": "hash"},
        {"user_inter_num_interval": "[4,inf)", "item_inter_num_interval": "[2,9]"},
        {"normalize_all": True, "val_interval": {"rating": "[1,inf)"}},
        {"limit_users": 2},
    ]
)


@given(
    st.lists(cells, min_size=8, max_size=40), choices, st.sampled_from(["HSTU", "SASRec", "BPR"])
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_prepared_set_gives_what_the_files_give(rows, options, model):
    shutil.rmtree("dataset", ignore_errors=True)
    write_inter(rows, header=HEADER)
    options = {"load_col": FIELDS, "MAX_ITEM_LIST_LENGTH": 4, **options}
    try:
        create_dataset(small_config(model, **options)).build()
    except (InputError, ValueError):
        return  # what is refused is refused alike: test_bad_files_are_refused_alike
    assert_same(model, **options)


def test_ml_100k_in_batches():
    source = Path(small_config("HSTU", "ml-100k")["data_path"])
    shutil.copytree(source, "dataset/ml-100k")
    options = {"data_path": "dataset", "MAX_ITEM_LIST_LENGTH": 10, "train_batch_size": 500}
    batches = []
    for how in ("never", "always"):
        config = small_config("HSTU", "ml-100k", prepared=how, **options)
        batches.append([list(loader) for loader in make_loaders(config, create_dataset(config))])
    for one, other in zip(batches[0][0], batches[1][0], strict=True):
        assert_equal(one, other)
    for one, other in zip(batches[0][2], batches[1][2], strict=True):
        assert_equal(one[0], other[0])


def test_frames_of_recbole_come_back():
    """Models that RecBole feeds interaction by interaction, items with lists and gaps."""
    write_inter(random_rows())
    items = [(f"i{k}", "" if k % 3 else f"g{k} g1", "" if k == 4 else k / 7) for k in range(30)]
    lines = ["item_id:token\tgenre:token_seq\tprice:float"]
    lines += ["\t".join(map(str, row)) for row in items]
    Path("dataset/toy/toy.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {"load_col": None, "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO"}}
    plain, *prepared = loaded("BPR", **options)
    for data in prepared:
        assert data.inter_feat.equals(plain.inter_feat)
        assert data.item_feat["price"].equals(plain.item_feat["price"])
        torch.manual_seed(1)
        ours = data.build()
        torch.manual_seed(1)
        theirs = create_dataset(small_config("BPR", prepared="never", **options)).build()
        for one, other in zip(theirs, ours, strict=True):
            assert_equal(one[np.arange(len(one))], other[np.arange(len(other))])


intervals = st.sampled_from(["[0,inf)", "[2,inf)", "(2,4]", "[1,2];[4,9)", None])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), intervals, intervals)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_filter_by_numbers_is_recboles(pairs, of_users, of_items):
    write_inter([(f"u{u}", f"i{i}", t) for t, (u, i) in enumerate([*pairs, (9, 9)])])
    Path("dataset/toy/toy.item").write_text(
        "item_id:token\n" + "".join(f"i{k}\n" for k in range(8)), encoding="utf-8"
    )
    options = {"user_inter_num_interval": of_users, "item_inter_num_interval": of_items}
    config = small_config("BPR", load_col=None, **options)

    class Theirs(ExactTimes):
        _filter_by_inter_num = Dataset._filter_by_inter_num

    def rows(kind):
        try:
            data = kind(config)
        except ValueError as error:
            return str(error)
        return [list(map(str, data.field2id_token[f])) for f in ("user_id", "item_id")], len(data)

    assert rows(ExactTimes) == rows(Theirs)


def messages(caplog):
    said = " ".join(caplog.messages)
    caplog.clear()
    return said


def folders():
    return sorted(Path("dataset/toy").glob("*.prepared"))


def test_it_is_made_again_when_content_or_filters_change(toy, caplog):
    caplog.set_level("INFO")
    source = toy / "toy" / "toy.inter"
    os.utime(source, ns=(1, 1))

    def start(**options):
        return create_dataset(small_config(prepared="always", **options)), messages(caplog)

    assert "made in" in start()[1]
    assert "made in" not in start()[1]
    os.utime(source)  # another time, the same content
    assert "made in" not in start()[1]
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("i1\t", "new\t"), encoding="utf-8")
    data, said = start()
    assert "toy.inter has changed; it is made again" in said
    assert "new" in data.field2id_token["item_id"]
    assert len(folders()) == 1
    assert "limit_users: 5 of 40" in start(limit_users=5)[1]
    data, said = start(limit_users=5)
    assert "limit_users: 5 of 40" in said  # said at every start, not only at the first
    assert "made in" not in said
    assert (data.user_num, len(folders())) == (6, 2)


def test_a_file_that_is_cut_short_is_made_again(toy, caplog):
    first = create_dataset(small_config(prepared="always"))
    (folder,) = folders()
    (folder / "inter.arrow").write_bytes((folder / "inter.arrow").read_bytes()[:-9])
    of_the_dead = folder.with_name(f".{folder.name}.elsewhere.0.part")
    of_the_dead.mkdir()
    again = create_dataset(small_config(prepared="always"))
    assert "not whole (inter.arrow has" in caplog.text
    assert len(again.build()[0]) == len(first.build()[0])
    assert not of_the_dead.exists()  # a killed process had left it
    for damaged in folder.glob("tokens.*.arrow"):
        damaged.write_bytes(bytes(damaged.stat().st_size))
        assert len(create_dataset(small_config(prepared="always")).build()[0])


def test_another_process_is_waited_for(toy, caplog):
    caplog.set_level("INFO")
    create_dataset(small_config(prepared="always"))
    (folder,) = folders()
    shutil.rmtree(folder)
    made = []
    with one_at_a_time(folder.with_suffix(".lock"), ""):
        thread = threading.Thread(
            target=lambda: made.append(create_dataset(small_config(prepared="always")))
        )
        thread.start()
        until(lambda: "another process prepares it; waiting" in caplog.text)
        assert not made
    thread.join()
    assert len(made) == len(folders()) == 1


def test_a_source_that_changes_meanwhile_is_told(toy, monkeypatch):
    source, write = toy / "toy" / "toy.inter", prepare.write_prepared

    def and_another_writes(*arguments):
        write(*arguments)
        os.utime(source, ns=(5, 5))

    monkeypatch.setattr(prepare, "write_prepared", and_another_writes)
    with pytest.raises(InputError, match=r"toy\.inter: changed while it was read; start again"):
        create_dataset(small_config(prepared="always"))
    assert not folders()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_and_leaves_nothing(toy, monkeypatch):
    def onto_full(folder, name, columns, write=arrow_files.write_table):
        if name == "starts":
            (folder / f"{name}.arrow").symlink_to("/dev/full")
        write(folder, name, columns)

    monkeypatch.setattr("recbole_hstu.data.prepared.prepared_set.write_table", onto_full)
    with pytest.raises(InputError, match=r"cannot be written \(.*No space left.*free space"):
        create_dataset(small_config(prepared="always"))
    left = {file.name.partition(".")[2] for file in Path("dataset/toy").iterdir()}
    assert not any("prepared" in name or "part" in name for name in left)


def test_a_sample_of_users_is_the_same_everywhere(caplog):
    caplog.set_level("INFO")
    rows = random_rows()
    drawn = []
    for model, order in (("HSTU", rows), ("SASRec", rows[::-1])):
        write_inter(order)
        parts = create_dataset(small_config(model, eval_users=7)).build()
        drawn += [
            sorted(part.field2id_token["user_id"][part.inter_feat["user_id"]]) for part in parts[1:]
        ]
    assert len(drawn[0]) == 7
    assert all(users == drawn[0] for users in drawn)
    assert "eval_users: 7 of 40 users of the test part are evaluated" in caplog.text
    everybody = create_dataset(small_config("SASRec", eval_users=99)).build()[2]
    assert len(everybody) == 40


def test_what_a_prepared_set_cannot_keep_is_refused(toy):
    with pytest.raises(InputError, match="prepared: not together with preload_weight"):
        create_dataset(small_config(prepared="always", preload_weight={"a": "b"}))
    with pytest.raises(InputError, match="prepared: load_col lacks timestamp; leave it out"):
        create_dataset(
            small_config("BPR", prepared="always", load_col={"inter": ["user_id", "item_id"]})
        )
    with pytest.raises(InputError, match="prepared: not for the data set of DIEN; leave it out"):
        create_dataset(small_config("DIEN", prepared="always"))


@pytest.mark.parametrize(
    "line", ["u1\ti1\tx", "u1\ti1", "u1\ti1\t5\t6", "u1\ti1\t", 'u1\t"i1\t5', "u1\ti1\t1e3"]
)
def test_bad_files_are_refused_alike(line):
    write_inter(random_rows())
    with Path("dataset/toy/toy.inter").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")

    def outcome(how):
        try:
            data = create_dataset(small_config(prepared=how))
        except InputError as error:
            return str(error)
        return len(data), str(data)

    assert outcome("always") == outcome("never")


@pytest.mark.parametrize("how", ["always", "never"])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_the_name_of_no_user_and_no_item_is_refused(how, column):
    event = {"user_id": "u1", "item_id": "i1", column: "[PAD]"}
    write_inter([*random_rows(), (*event.values(), 5)])
    words = rf"toy\.inter: column '{column}' holds \[PAD\], .*; rename it, or remove its rows"
    with pytest.raises(InputError, match=words):
        create_dataset(small_config(prepared=how))


def test_tokens_are_those_of_the_set_that_was_taken_up(in_empty_folder):
    """Another run may make the folder anew while this one lasts."""
    write_inter(random_rows())
    create_dataset(small_config(prepared="always"))
    data = create_dataset(small_config(prepared="always"))
    write_inter([(user, f"new-{item}", time) for user, item, time in random_rows(n_items=31)])
    later = create_dataset(small_config(prepared="always"))
    assert "new-i5" in later.field2id_token["item_id"]
    assert set(data.field2id_token["item_id"][1:]) == {f"i{n}" for n in range(30)}


def test_a_file_without_times_is_refused_as_it_is_without_preparing(toy):
    source = toy / "toy" / "toy.inter"
    source.write_text(source.read_text().replace("timestamp:", "when:", 1))
    for how in ("never", "always"):
        with pytest.raises(InputError, match="no time column 'timestamp' is loaded"):
            create_dataset(small_config(prepared=how)).build()
    assert not folders()


def test_what_is_left_out_is_said_though_nobody_listened_when_it_was_made(toy, caplog):
    logging.getLogger().setLevel(logging.WARNING)  # as a study has it
    options = {"prepared": "always", "user_inter_num_interval": "[8,inf)"}
    create_dataset(small_config(**options))
    assert not caplog.messages
    caplog.set_level("INFO")
    create_dataset(small_config(**options))
    assert "item_inter_num_interval: 67 of 381 interactions left out" in messages(caplog)
