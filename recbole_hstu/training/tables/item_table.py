"""The item table of a model, trained by the rows that a step uses."""

from __future__ import annotations

from typing import Any

import torch

from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.settings import Settings
from recbole_hstu.training.tables.lazy_adamw import LazyAdamW


def lazy_adamw(model: Any, config: Settings, params: Any, lr: float, decay: float) -> LazyAdamW:
    """The optimiser of `learner: lazy_adamw`; whatever reads the model's items or its state
    finds them up to date.

    Raises:
        InputError: a model without a table of item ids, several processes, betas or an option that
            it cannot take.
    """
    sharded = blocks_of(model) is not None
    if processes.count() > 1 and not sharded:
        raise InputError(
            "learner: lazy_adamw trains in one process, or a sharded table; leave --nproc out, add "
            "--item_table=sharded, or use --learner=adamw"
        )
    items = getattr(model, "items", None)
    items = items.own if items is not None and sharded else items
    table = getattr(items, "ids", None)
    if items is None or table is None or not getattr(items, "sparse", False):
        raise InputError(
            "learner: lazy_adamw trains the item ids of models of the HSTU family; "
            f"{config['model']} with these options has none: use --learner=adamw"
        )
    if config["enable_scaler"]:
        raise InputError(
            "enable_scaler: lazy_adamw does not scale losses; leave it out, or use --learner=adamw"
        )
    if config["clip_grad_norm"]:
        raise InputError(
            "clip_grad_norm: is the norm of all gradients, and lazy_adamw keeps those of a few "
            "rows; leave it out, or use --learner=adamw"
        )
    try:
        optimizer = LazyAdamW(
            params, table, lr=lr, betas=tuple(config["adam_betas"]), weight_decay=decay
        )
    except ValueError as error:
        raise InputError(f"adam_betas: {error}, or use --learner=adamw") from error
    items.register_forward_pre_hook(lambda _, rows: optimizer.catch_up(*rows))
    items.register_state_dict_pre_hook(lambda *_: optimizer.catch_up())
    # Rows that other weights replace have nothing left to make up for.
    items.register_load_state_dict_pre_hook(lambda *_: optimizer.catch_up())
    return optimizer


def check_sharded(model: Any, config: Settings) -> None:
    """Whether a training of several processes can do what `item_table` says.

    Raises:
        InputError: it cannot.
    """
    if config["item_table"] != "sharded":
        return
    if blocks_of(model) is None:
        raise InputError(
            f"item_table: sharded is for HSTU's table of item ids; {config['model']} with these "
            "options has another one: use --item_table=replicated"
        )
    if config["loss_type"] == "full":
        raise InputError(
            "loss_type: full reads all items at every step, which no process has with item_table: "
            "sharded; use shared or sampled"
        )
    if config["clip_grad_norm"]:
        raise InputError(
            "clip_grad_norm: is the norm of all gradients, and with item_table: sharded each "
            "process has those of its items; leave it out"
        )
    for name in ("recent_days", "transition_steps", "weight_average"):
        if config[name] is not None:
            raise InputError(f"{name}: {config[name]} needs all items in one place; leave it out")
    if config["negative_items"] == "training":
        raise InputError("negative_items: training needs all items in one place; leave it out")
    if config["enable_scaler"]:
        raise InputError("enable_scaler: each process would skip steps of its own; leave it out")
    from torch.distributed import checkpoint

    if not hasattr(checkpoint, "HuggingFaceStorageWriter"):
        raise InputError(
            "item_table: sharded writes its checkpoints by a newer torch than "
            f"{torch.__version__}; take 2.9 or later"
        )
