"""What several processes of one launch do, one after the other: to start them takes longest."""

from pathlib import Path

import torch
from recbole.data.interaction import Interaction

from recbole_hstu.data.rows.own_rows import own_rows
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.batch_share import BatchShare
from recbole_hstu.distributed.shared_loss import SharedLoss
from recbole_hstu.layers.items.item_encoder import FusedEncoder
from recbole_hstu.quick_start import run


def in_turn(calls):
    """The results of functions, each with its arguments."""
    return [function(*arguments) for function, *arguments in calls]


def train(model, options):
    """The result on `toy`; `resume` may name a folder with one training, which goes on."""
    folder = Path(options.get("resume", "none"))
    if folder.is_dir():
        (file,) = folder.glob("*.last.pth")
        options = {**options, "resume": str(file)}
    return run(model, "toy", config_dict=options)


class TextModel(torch.nn.Module):
    """A frozen text table that differs from process to process."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        text = torch.full((5, 3), float(processes.rank()))
        self.items = FusedEncoder(text=text, text_hash="", hidden_size=2)

    def calculate_loss(self, batch):
        return self.items()[0][batch["item"]].mean()


def tables_after_two_steps():
    """Of two processes: their frozen tables, and the trained weights of their projections."""
    with processes.together({"nproc": 2, "device": TextModel.device}):
        torch.manual_seed(processes.rank())
        model = TextModel()
        loss = SharedLoss(model, model.device)
        own = torch.tensor([processes.rank(), processes.rank() + 2])
        rows = own_rows(Interaction({"item": own}), BatchShare(own, 4))
        for _ in range(2):
            loss(rows).backward()
        projection = model.items.projection.weight.detach()
        return processes.gather(model.items.text), processes.gather(projection)
