"""An epoch of training: RecBole's steps, shared by processes, their losses read now and then."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import recbole.trainer.trainer
import torch
from recbole.utils import get_gpu_usage, set_color
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_hstu.data.rows.cloze_loader import ClozeBatch
from recbole_hstu.data.rows.window_loader import WindowBatch
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.shared_loss import SharedLoss
from recbole_hstu.support.commands.interrupts import Interrupts
from recbole_hstu.support.random_states import random_states, restore_random_states
from recbole_hstu.training.divergence import diverged, users_of
from recbole_hstu.training.loss_reading import LossReading

_bar = partial(tqdm, ncols=100, leave=False)
recbole.trainer.trainer.tqdm = _bar  # of its own epochs and evaluations


class EpochSteps:
    """The part of `PlainTrainer` that makes the steps of an epoch."""

    config: Any
    model: Any
    device: Any
    optimizer: Any
    clip_grad_norm: Any
    gpu_available: bool
    enable_amp: bool
    enable_scaler: bool
    history: list[dict[str, Any]]
    start_epoch: int
    last_file: Path
    _dataset: Any
    _interrupts: Interrupts
    _generators: Any
    _shared_loss: SharedLoss | None = None
    _batch: Any = None
    _step = 0  # of the epoch
    _own_steps = False  # whether RecBole's trainer of the model has steps of its own

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        """RecBole's, which waits for the loss at every step.

        Returns:
            The sum of the losses of all steps, a tuple where the model's loss is one.
        """
        self._step = 0
        loss = loss_func or self._loss
        if type(self)._own_steps:
            return super()._train_epoch(train_data, epoch_idx, loss, show_progress)  # type: ignore[misc]
        self.model.train()
        reading = LossReading(self._stop_at_nan)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        what = set_color(f"Train {epoch_idx + 1:>5}", "pink")
        progress = _bar(train_data, desc=what, disable=not show_progress)
        for batch in progress:
            losses = self._make_step(batch.to(self.device), loss, scaler)
            reading.add(losses, self._users())
            self._interrupts.check()
            if self.gpu_available and show_progress:
                used = set_color("GPU RAM: " + get_gpu_usage(self.device), "yellow")
                progress.set_postfix_str(used)
        reading.read()
        return reading.total

    def _make_step(self, batch: Any, loss: Any, scaler: Any) -> Any:
        self.optimizer.zero_grad()
        if isinstance(batch, WindowBatch | ClozeBatch) and self._shared_loss is None:
            parts = batch.parts(batch.most)
            losses = sum(self._backward(part, loss, scaler, weight) for part, weight in parts)
        else:
            losses = self._backward(batch, loss, scaler)
        if self.clip_grad_norm:
            scaler.unscale_(self.optimizer)  # the limit is one of true gradients
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        scaler.step(self.optimizer)
        scaler.update()
        self._step += 1
        return losses

    def _backward(self, rows: Any, loss: Any, scaler: Any, weight: float = 1.0) -> Any:
        """Add the gradients of some rows; returns their weighted loss, or all losses of a tuple."""
        with torch.autocast(device_type=self.device.type, enabled=self.enable_amp):
            losses = loss(rows)
        whole: Any = weight * (sum(losses) if isinstance(losses, tuple) else losses)
        scaler.scale(whole).backward()
        return losses if isinstance(losses, tuple) else whole.detach()

    def _loss(self, batch: Any) -> Any:
        self._batch = batch
        self._go_to_step()
        if self._shared_loss is None:
            return self.model.calculate_loss(batch)
        if len(self.history) == self.start_epoch and self._step == 0:
            here = random_states(self._generators())

            def restore() -> None:
                restore_random_states(here, self._generators())
                self._go_to_step()

            self._shared_loss.check(batch, restore)
        return self._shared_loss(batch)

    def _go_to_step(self) -> None:
        if hasattr(self.model, "draws"):
            self.model.draws.at(len(self.history), self._step)

    def _check_nan(self, loss: torch.Tensor) -> None:
        """RecBole's hook after every batch of its own steps."""
        self._interrupts.check()
        self._step += 1
        if torch.isnan(loss):
            self._stop_at_nan(self._step, self._users())

    def _users(self) -> Any:
        """(b,) whose rows this process had in the last batch, None where no user is named."""
        field = self.config["USER_ID_FIELD"]
        known = self._batch is not None and field in self._batch
        return self._batch[field] if known else None

    def _stop_at_nan(self, step: int, users: torch.Tensor | None) -> None:
        own = None if users is None else users.cpu()
        everybody = [part for part in processes.gather(own) if part is not None]
        tokens = self._dataset.field2id_token[self.config["USER_ID_FIELD"]]
        who = users_of(torch.cat(everybody), tokens) if everybody else ""
        what = f"the training loss is NaN in epoch {len(self.history) + 1}, step {step}{who}"
        raise diverged(what, self.optimizer, self.last_file)
