"""Small HSTUs with large weights, and batches for them."""

import torch
from golden_model import (
    SIZES,
    TEXT_SETTINGS,
    Settings,
    dataset,
)

from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.hstutext import HSTUText

WIDTH = SIZES["MAX_ITEM_LIST_LENGTH"]


def make_model(seed=0, cls=HSTU, **changes):
    torch.manual_seed(seed)
    model = cls(Settings({**SIZES, **changes}), dataset()).double().eval()
    with torch.no_grad():  # weights large enough that every part moves the result
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def make_batch(lengths, seed=0, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    n = len(lengths)
    batch = {
        "item_id_list": torch.randint(1, 61, (n, width), generator=generator),
        "timestamp_list": torch.randint(0, 10**9, (n, width), generator=generator).sort(1).values,
        "item_length": torch.tensor(lengths),
        "item_id": torch.randint(1, 61, (n,), generator=generator),
        "timestamp": torch.randint(10**9, 2 * 10**9, (n,), generator=generator),
    }
    padding = torch.arange(width) >= batch["item_length"].unsqueeze(1)
    for field in ("item_id_list", "timestamp_list"):
        batch[field][padding] = 0
    return batch


def text_model(text_file, **changes):
    options = {**TEXT_SETTINGS, "text_features_file": text_file, **changes}
    return make_model(cls=HSTUText, **options)


LENGTHS = [12, 9, 11, 3, 1, 12]


def outcome(model, batch):
    model.draws.at(0, 0)
    loss = model.calculate_loss(batch)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]
