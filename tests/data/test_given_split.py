"""A split that comes in files: RecBole's `benchmark_filename`."""

import pytest
from small_data import random_rows, small_config, small_options, write_inter

from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.quick_start import make_loaders, run
from recbole_hstu.support.errors import InputError

PARTS = ("train", "valid", "test")
GIVEN = {"benchmark_filename": list(PARTS)}


def write_parts(rows_of_part, header=None):
    for part, rows in zip(PARTS, rows_of_part, strict=True):
        folder = write_inter(rows, f"toy.{part}", header=header)
        (folder / f"toy.{part}" / f"toy.{part}.inter").replace(folder / f"toy.{part}.inter")
    (folder / "toy").mkdir()
    for part in PARTS:
        (folder / f"toy.{part}.inter").replace(folder / "toy" / f"toy.{part}.inter")


def interactions():
    rows = random_rows()
    last = {row[0]: row for row in rows}
    rest = [row for row in rows if row is not last[row[0]]]
    return rest, list(last.values())[:20], list(last.values())[20:]


def test_a_general_model_trains_on_interactions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, valid, test = interactions()
    write_parts((train, valid, test))
    parts = create_dataset(small_config("BPR", **GIVEN)).build()
    assert [len(part) for part in parts] == [len(train), len(valid), len(test)]
    result = run("BPR", "toy", config_dict=small_options("BPR", **GIVEN))
    assert 0 <= result["test_result"]["hit@5"] <= 1


def test_whoever_a_split_in_files_tests_is_tested(tmp_path, monkeypatch):
    """A user of one earlier event, too: leave-one-out would leave him out."""
    monkeypatch.chdir(tmp_path)
    train, valid, test = interactions()
    own = [row for row in train if row[0] == test[0][0]]
    write_parts(([row for row in train if row not in own[1:]], valid, test))
    config = small_config("BPR", **GIVEN)
    assert make_loaders(config, create_dataset(config))[2].sample_size == len(test)


def test_a_sequential_model_needs_rows_with_their_histories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_parts(interactions())
    for model, message in (
        ("SASRec", "needs rows with their histories, in a column item_id_list:token_seq"),
        ("HSTU", "models that learn at every position make their own split"),
    ):
        with pytest.raises(InputError, match=message):
            run(model, "toy", config_dict=small_options(model, **GIVEN))


@pytest.mark.parametrize(
    "option",
    [
        {"limit_users": 5},
        {"rm_dup_inter": "first"},
        {"user_inter_num_interval": "[3,inf)"},
        {"val_interval": {"timestamp": "[5,inf)"}},
    ],
)
def test_files_are_taken_as_they_are(tmp_path, monkeypatch, option):
    """RecBole filters nothing of them, without a word."""
    monkeypatch.chdir(tmp_path)
    write_parts(interactions())
    (key,) = option
    with pytest.raises(InputError, match=rf"^{key}: benchmark_filename takes files as they are"):
        run("BPR", "toy", config_dict=small_options("BPR", **GIVEN, **option))


@pytest.mark.parametrize("files", ["train", ["train", "test"]])
def test_a_split_has_three_files(files):
    with pytest.raises(InputError, match=r"benchmark_filename: .* must name three files"):
        small_config("BPR", benchmark_filename=files)


def test_a_sequential_model_trains_on_rows_with_their_histories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    histories: dict[str, list[str]] = {}
    rows = []
    for user, item, _ in random_rows():
        if before := histories.setdefault(user, []):
            rows.append((user, " ".join(before[-8:]), item))
        before.append(item)
    write_parts(
        (rows[:-20], rows[-20:-10], rows[-10:]),
        "user_id:token\titem_id_list:token_seq\titem_id:token",
    )
    columns = {"load_col": {"inter": ["user_id", "item_id_list", "item_id"]}}
    with pytest.raises(
        InputError, match=r"numbers of their own; add --alias_of_item_id=\[item_id_list"
    ):
        create_dataset(small_config("SASRec", **GIVEN, **columns)).build()
    columns["alias_of_item_id"] = ["item_id_list"]
    dataset = create_dataset(small_config("SASRec", **GIVEN, **columns))
    parts = dataset.build()
    assert [len(part) for part in parts] == [len(rows) - 20, 10, 10]
    _, history, _ = rows[0]
    shown = dataset.id2token("item_id", parts[0].inter_feat["item_id_list"][0][:1].numpy())
    assert " ".join(shown) == history
    result = run("SASRec", "toy", config_dict=small_options("SASRec", **GIVEN, **columns))
    assert 0 <= result["test_result"]["hit@5"] <= 1
