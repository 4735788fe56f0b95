"""RecBole's causal models trained at every position of a window: proved for a model, or not done.

RecBole lays a row over every prefix of a sequence and picks the hidden state after its last event
with `gather_indexes`. A causal model has the states of all prefixes in one pass over the longest:
answered with these, its own `calculate_loss` gives the loss of all targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_hstu.data.rows.cloze_loader import ClozeBatch, cloze_loader
from recbole_hstu.data.rows.window_loader import WindowBatch, WindowLoader, window_loader
from recbole_hstu.distributed import processes
from recbole_hstu.support.errors import ANY_REASON, InputError, in_a_line
from recbole_hstu.support.random_states import random_states_kept
from recbole_hstu.training.views.shaken import TOLERANCE, shaken

_PROVED_WINDOWS = 16

Gather = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def in_train_view(config: Any, train: Any, model: nn.Module) -> Any:
    """The training loader that `train_view` asks for.

    `window`: a loader of windows, and a model whose `calculate_loss` takes them, where both ways
    are found to be equal (`reason_against`); the log says which way is taken, and why.
    `cloze`: a loader of windows with masked events, for a model that masks them.

    Args:
        train: RecBole's loader, of prefixes for a sequential model.

    Raises:
        InputError: `cloze`, and the model does not mask events, or its loss is no mean over them.
    """
    if config["train_view"] == "prefix" or config["sequence_view"] != "prefix":
        return train
    if config["train_view"] == "cloze":
        windows = cloze_loader(train)
        if reason := _proved(model, windows, reason_against_parts):
            raise InputError(f"train_view: cloze does not fit: {reason}")
        if config["ft_ratio"]:
            getLogger().warning(
                f"ft_ratio: in {config['ft_ratio']:.0%} of the steps every window has one masked "
                "event, its last; --ft_ratio=0 masks mask_ratio of all in every step"
            )
        return _told(windows)
    try:
        windows = window_loader(train)
        reason = _proved(model, windows, reason_against)
    except InputError as error:
        reason = str(error)
    reasons = [each for each in processes.gather(reason) if each]
    if reasons:
        getLogger().info(f"train_view: prefix, since windows do not fit: {reasons[0]}")
        return train
    learn_at_every_position(model)
    return _told(windows)


def _told(windows: WindowLoader) -> WindowLoader:
    getLogger().info(
        f"train_view: {windows.view}, {windows.n_targets:,} targets in {len(windows._dataset):,} "
        f"windows of up to {windows.config['MAX_ITEM_LIST_LENGTH']} events"
    )
    return windows


def learn_at_every_position(model: Any) -> None:
    """Let the `calculate_loss` of a causal model take a `WindowBatch`, too."""
    own = model.calculate_loss

    def calculate_loss(batch: Any) -> Any:
        if not isinstance(batch, WindowBatch):
            return own(batch)
        with _gathering(model, batch.gather):
            return own(batch)

    model.calculate_loss = calculate_loss


def _proved(model: Any, windows: WindowLoader, reason_of: Callable[..., Any]) -> str | None:
    """The reason against windows that those of the first batch with the most targets give; nothing
    is drawn or changed by it."""
    with random_states_kept({"loader": windows.generator}):
        first = windows.by_targets(next(iter(windows.batches())))
        batch = windows.collate_fn(first[: _PROVED_WINDOWS * processes.count()]).to(model.device)
        with shaken(model):
            return reason_of(model, batch)


@torch.no_grad()
def reason_against(model: Any, batch: WindowBatch) -> str | None:
    """Why a model's states or its loss over windows are not those over prefixes, to 1e-5 of the
    largest; None where they are. Dropout must be off.

    A prefix that begins before its window is shortened for both: it begins with the window.
    """
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return "it normalises by batch"
    if not batch.place.any():
        return "no window has two targets"
    try:
        states, loss = _outcome(model, batch.prefixes(model.ITEM_SEQ_LEN), model.gather_indexes)
        in_windows, whole = _outcome(model, batch, batch.gather)
        middle = (batch.place.min() + batch.place.max()) // 2
        early = torch.nonzero(batch.place <= middle).squeeze(1)
        narrow = batch[early]  # as wide as the last of these needs
        in_narrow, _ = _outcome(model, narrow, narrow.gather)
        parts = batch.parts(len(batch) // 2)
        halves = sum(weight * _outcome(model, part, part.gather)[1] for part, weight in parts)
    except ANY_REASON as error:
        said = f"{type(error).__name__}: {in_a_line(error)}"
        return f"its loss reads more than the state after the last event ({said})"
    if isinstance(loss, tuple):
        return "its loss has several parts"
    if not states:
        return "its loss does not read the state after the last event"
    for what, one, other in (
        *(("states differ", *pair) for pair in zip(states, in_windows, strict=True)),
        *(
            ("states depend on the width of a window", one[early], other)
            for one, other in zip(in_windows, in_narrow, strict=True)
        ),
        ("losses differ", loss, whole),
        ("loss is no mean over targets", whole, halves),
    ):
        difference = (one - other).abs().max() / one.abs().max()
        if not difference <= TOLERANCE:
            return f"its {what} (by {difference:.1e})"
    return None


@torch.no_grad()
def reason_against_parts(model: Any, batch: ClozeBatch) -> str | None:
    """Why a model's loss over windows with masked events is not that of its parts together, to 1e-5
    of it; None where it is. Dropout must be off."""
    try:
        whole = model.calculate_loss(batch)
        if isinstance(whole, tuple):
            return "its loss has several parts"
        parts = sum(weight * model.calculate_loss(part) for part, weight in batch.parts(1))
    except ANY_REASON as error:
        said = f"{type(error).__name__}: {in_a_line(error)}"
        return f"its loss reads more than masked events ({said})"
    difference = abs(whole - parts) / abs(whole)
    if not difference <= TOLERANCE:
        return f"its loss is no mean over masked events (by {difference:.1e})"
    return None


def _outcome(model: Any, batch: Interaction, gather: Gather) -> tuple[list[torch.Tensor], Any]:
    """The states that the loss of a batch picks, and the loss."""
    states = []

    def kept(output: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        states.append(gather(output, index))
        return states[-1]

    with _gathering(model, kept):
        loss = model.calculate_loss(batch)
    return states, loss


@contextmanager
def _gathering(model: Any, gather: Gather) -> Iterator[None]:
    """Another `gather_indexes` in the place of the model's, for the duration of a block."""
    model.gather_indexes = gather
    try:
        yield
    finally:
        del model.gather_indexes
