"""kill -9 while a checkpoint with a sharded item table is written: the one before stays whole."""

from pathlib import Path

import pytest
import torch
from killing import Victims

from recbole_hstu.training import checkpoint
from recbole_hstu.training.tables import table_folder

FILE = Path("some.last.pth")
SETUP = """
import os, shutil, signal
from pathlib import Path
import torch
from torch.distributed import checkpoint as dcp
from recbole_hstu.layers.items.sharded_ids import ShardedIds
from recbole_hstu.training import checkpoint
from recbole_hstu.training.tables.table_folder import OwnBlock
"""
# One epoch's checkpoint, written by a process that has all rows. It counts what it brings to the
# disk and what it removes, and dies at the moment `place`: 1 the table, 2 the part of its folder
# (which has its name by then), 3 the file that names it, 4 the folder of the last epoch.
JOB = """
epoch, place = map(int, word.split())
def counted(call):
    def or_die(*args, **more):
        nonlocal place
        place -= 1
        if not place:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **more)
    return or_die
os.fsync, shutil.rmtree = counted(os.fsync), counted(shutil.rmtree)
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
model = torch.nn.Module()
model.items = ShardedIds(n_items=6, hidden_size=2)
table = model.items.own.ids
optimizer = torch.optim.AdamW([table])
table.grad = torch.full_like(table, epoch)
optimizer.step()
with torch.no_grad():
    table.fill_(epoch)
weights = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
about = {"config": {}, "epoch": epoch, "tokens": {}, "best_valid_result": {}}
with OwnBlock(model, optimizer).stored(Path("some.last.pth"), weights):
    checkpoint.save_checkpoint("some.last.pth", about | weights)
"""


def epoch_kept():
    """That of the checkpoint, of whose table and moments every row is there and of that epoch."""
    state = checkpoint.load_resumable(FILE)
    table_folder.add_whole(FILE, state, "cpu", moments=True)
    epoch, (moments,) = state["epoch"], state["optimizer"]["state"].values()
    assert torch.equal(state["state_dict"][table_folder.IDS], torch.full((6, 2), float(epoch)))
    assert torch.equal(moments["exp_avg"], torch.full((6, 2), 0.1 * epoch))
    return epoch


def written():
    return [path for path in Path().iterdir() if "some" in path.name]


@pytest.mark.slow
def test_a_killed_save_leaves_a_whole_checkpoint_and_the_next_one_removes_its_remains():
    with Victims(SETUP, JOB) as victims:
        assert not victims.run("1 0")
        for place in (1, 3):  # in the folder; in the file that names it
            assert victims.run(f"2 {place}")
            assert epoch_kept() == 1
            assert len(written()) > 2
        assert not victims.run("2 0")
        assert epoch_kept() == 2
        assert len(written()) == 2
        assert victims.run("3 4")  # before the folder of the last epoch is removed
        assert epoch_kept() == 3
        assert len(written()) == 3
        assert not victims.run("4 0")
        assert epoch_kept() == 4
        assert len(written()) == 2
