"""Trainings of processes that hold a block of the items each equal that of one process."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from launched_runs import in_turn, train
from small_data import random_rows, small_config, small_options, weights, write_inter

from recbole_hstu.data import loaders
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.launcher import launch
from recbole_hstu.layers.items import item_encoder
from recbole_hstu.layers.items.item_encoder import IdEncoder
from recbole_hstu.layers.items.sharded_ids import ShardedIds
from recbole_hstu.quick_start import evaluate, run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint
from recbole_hstu.training.tables import table_folder
from recbole_hstu.training.tables.item_table import check_sharded

# 31 items with the padding: four blocks of which the last is shorter. 41 users, 20 a batch: in the
# last one only the first process has a row.
OPTIONS = small_options(
    item_table="sharded",
    train_batch_size=20,
    eval_batch_size=7,
    stopping_step=100,
    input_dropout_prob=0.0,
    hidden_dropout_prob=0.0,
    metrics=["Hit", "NDCG", "ItemCoverage"],
    mask_seen=True,
)
DROPOUT = {**OPTIONS, "loss_type": "shared", "hidden_dropout_prob": 0.5, "epochs": 3}
LAZY = {**OPTIONS, "loss_type": "shared", "learner": "lazy_adamw", "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def data():
    write_inter(random_rows(n_users=41))


def last(result):
    return result["checkpoint"].with_suffix(".last.pth")


def assert_same(one, other):
    """Losses and weights to float accuracy, metrics and every user's rank exactly."""
    for first, second in zip(one["record"].history, other["record"].history, strict=True):
        assert second.train_loss == pytest.approx(first.train_loss, rel=1e-6)
        assert dict(second.valid) == dict(first.valid)
    expected, found = weights(last(one)), weights(last(other))
    assert list(found.keys() - expected.keys()) == []
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert other["test_result"] == one["test_result"]
    assert np.array_equal(other["ranks"].users, one["ranks"].users)
    assert np.array_equal(other["ranks"].ranks, one["ranks"].ranks)
    assert other["record"].beyond == one["record"].beyond
    assert other["record"].parameters == one["record"].parameters


@pytest.mark.slow
def test_two_processes_equal_one_and_go_on_with_four():
    one = [train("HSTU", options) for options in (OPTIONS, {**LAZY, "epochs": 3})]
    two = launch(2, 0, in_turn, [(train, "HSTU", options) for options in (
        {**OPTIONS, "checkpoint_dir": "two"},
        {**LAZY, "checkpoint_dir": "lazy"},  # of its own: a launch goes on where it finds itself
        {**DROPOUT, "checkpoint_dir": "whole"},
        {**DROPOUT, "checkpoint_dir": "cut", "train_seconds": 1e-9},
        {**DROPOUT, "checkpoint_dir": "cut", "resume": "cut", "train_seconds": None},
    )])  # fmt: skip
    assert_same(one[0], two[0])
    assert [two[place]["record"].epochs for place in (2, 3, 4)] == [3, 1, 3]
    expected = weights(last(two[2]))
    for name, value in weights(last(two[4])).items():
        assert torch.equal(value, expected[name]), name
    # A file and a folder a checkpoint; in each folder a file a process, with half of the rows.
    assert len(list(Path("two").iterdir())) == 4
    state = checkpoint.load_checkpoint(last(two[0]), with_table=False)
    assert not any("ids" in name for name in state["state_dict"])
    folder = last(two[0]).with_name(state["table"]["folder"])
    sizes = [file.stat().st_size for file in folder.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 3 * 16 * 16 * 4 + 1024  # ids and two moments

    further = {"epochs": 3, "resume": str(last(one[0])), "checkpoint_dir": "saved"}
    gone_on = launch(4, 0, in_turn, [(train, "HSTU", options) for options in (
        {**OPTIONS, "checkpoint_dir": "four"},
        {**LAZY, "epochs": 3, "resume": str(last(two[1])), "checkpoint_dir": "lazy"},
        {**OPTIONS, **further},
    )])  # fmt: skip
    assert_same(two[0], gone_on[0])
    assert_same(one[1], gone_on[1])
    assert_same(read_by_one_process(two[0]), gone_on[2])


def read_by_one_process(result):
    """Evaluated, and trained on."""
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    file = last(result)
    more = {"resume": str(file), "epochs": 3, "checkpoint_dir": "two"}
    return run("HSTU", "toy", config_dict={**OPTIONS, **more})


def test_a_damaged_or_missing_folder_is_one_line():
    """Written by one process, as a block of all rows."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        items = ShardedIds(n_items=6, hidden_size=2)
        model = torch.nn.Module()
        model.items = items
        optimizer = torch.optim.AdamW(model.parameters())
        state = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
        path = Path("some.pth")
        with table_folder.OwnBlock(model, optimizer).stored(path, state):
            pass
    finally:
        torch.distributed.destroy_process_group()
    (folder,) = Path().glob("some.table-*")
    (file,) = folder.iterdir()
    whole = {"state_dict": {}, "table": state["table"]}
    table_folder.add_whole(path, dict(whole), "cpu", moments=False)
    assert torch.equal(whole["state_dict"][table_folder.IDS], items.own.ids)
    content = file.read_bytes()
    file.write_bytes(content[:-4])
    with pytest.raises(InputError, match="damaged item table"):
        table_folder.add_whole(path, dict(whole), "cpu", moments=False)
    file.unlink()
    with pytest.raises(InputError, match="0 of 6 rows"):
        table_folder.add_whole(path, dict(whole), "cpu", moments=False)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"the item table of some\.pth is missing"):
        table_folder.add_whole(path, dict(whole), "cpu", moments=False)


def test_a_block_has_the_rows_that_it_would_have_among_all(monkeypatch):
    monkeypatch.setattr(item_encoder, "DRAWN_ROWS", 5)
    tables = []
    for block in (None, range(0, 4), range(4, 12), range(12, 13)):
        torch.manual_seed(0)
        tables.append(IdEncoder(n_items=13, hidden_size=3, block=block).ids)
        tables[-1].after = torch.rand(1)
    whole, *blocks = tables
    assert torch.equal(torch.cat(blocks), whole)
    assert len({table.after.item() for table in tables}) == 1


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("HSTU", {"loss_type": "full"}, "loss_type: full reads all items"),
        ("HSTU", {"clip_grad_norm": {"max_norm": 1}}, "clip_grad_norm: is the norm of all"),
        ("HSTU", {"recent_days": [4]}, "recent_days: .4. needs all items in one place"),
        ("HSTU", {"transition_steps": 2}, "transition_steps: 2 needs all items in one place"),
        ("HSTU", {"negative_items": "training"}, "negative_items: training needs all items in one"),
        ("HSTU", {"weight_average": 0.9}, "weight_average: 0.9 needs all items in one place"),
        ("HSTUText", {}, "item_table: sharded is for HSTU's table of item ids; HSTUText"),
    ],
)
def test_what_a_sharded_table_cannot_do_is_refused(model, options, message):
    config = small_config(model, item_table="sharded", **options)
    held = object() if model == "HSTU" else None
    with pytest.raises(InputError, match=message):
        check_sharded(SimpleNamespace(items=SimpleNamespace(blocks=held)), config)


def test_metrics_that_need_all_scores_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    config = small_config(item_table="sharded", metrics=["GAUC"], valid_metric="GAUC")
    with pytest.raises(InputError, match="item_table: sharded ranks in blocks of items"):
        loaders._check_options(config, SimpleNamespace(item_num=31))
