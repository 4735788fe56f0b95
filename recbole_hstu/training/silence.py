"""One process writes for TensorBoard and wandb; the others are kept from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import recbole.trainer.trainer

from recbole_hstu.config.config import Config


def write_nothing(config: Config) -> None:
    """Keep RecBole's trainer from writing for TensorBoard and wandb: the first process does."""
    recbole.trainer.trainer.get_tensorboard = _Silent
    config["log_wandb"] = False


@contextmanager
def nothing_written(config: Config) -> Iterator[None]:
    """A trainer that is made inside the block writes for nobody."""
    before = recbole.trainer.trainer.get_tensorboard
    write_nothing(config)
    try:
        yield
    finally:
        recbole.trainer.trainer.get_tensorboard = before


class _Silent:
    """Stands where RecBole expects TensorBoard's writer."""

    def __init__(self, logger): ...

    def add_scalar(self, *args): ...

    def add_hparams(self, *args): ...
