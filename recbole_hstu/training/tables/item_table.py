"""The item table of a model, trained by the rows that a step uses."""

from __future__ import annotations

from typing import Any

from recbole_hstu.distributed import processes
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
    if processes.count() > 1:
        raise InputError(
            "learner: lazy_adamw trains in one process; leave --nproc out, or use --learner=adamw"
        )
    items = getattr(model, "items", None)
    table = getattr(items, "ids", None)
    if items is None or table is None or not getattr(items, "sparse", False):
        raise InputError(
            f"learner: lazy_adamw trains the item ids of HSTU and its kin; {config['model']} with "
            "these options has none: use --learner=adamw"
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
