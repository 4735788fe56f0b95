"""What a training needs to go on as if nothing had happened: its checkpoints, written and read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from recbole.utils import set_color

from recbole_hstu.distributed import processes
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.random_states import random_states, restore_random_states
from recbole_hstu.training import checkpoint, data_of_training
from recbole_hstu.training.tables import table_folder

logger = logging.getLogger(__name__)


class Resumable:
    """The part of `PlainTrainer` that writes checkpoints and resumes from them."""

    config: Any
    model: Any
    logger: Any
    device: Any
    optimizer: Any
    saved_model_file: Any
    checkpoint_dir: str
    best_valid_score: float
    best_valid_result: dict[str, float] | None
    cur_step: int
    stopping_step: int
    start_epoch: int
    trained_seconds: float
    history: list[dict[str, Any]]
    _train_data: Any = None
    _dataset: Any = None
    _kept: dict[str, Any] | None = None
    _resumed: dict[str, Any] | None = None
    _stopped_early = False
    best_weights: dict[str, Any] | None = None
    goes_on_by: str | None
    _name: str
    _named = False

    @property
    def last_file(self) -> Path:
        """The state after the last epoch, to resume from; `saved_model_file` is the best one."""
        return checkpoint.last_file(self.saved_model_file)

    @contextmanager
    def _name_of_its_own(self, saved: bool) -> Iterator[None]:
        """Checkpoints under a name that no other run has; a resumed run goes on under its own."""
        with ExitStack() as held:
            if saved and self._resumed is None and not self._named:
                self._named = True
                if processes.is_main():
                    claim = checkpoint.claimed(self.checkpoint_dir, self._name, self.config["seed"])
                    self.saved_model_file = str(held.enter_context(claim))
                self.saved_model_file = processes.from_main(self.saved_model_file)
            yield

    def _generators(self) -> dict[str, torch.Generator]:
        # RecBole's loader of knowledge graphs wraps two others and has no generator itself.
        parts = {"loader": "", "general": "general_dataloader", "graph": "kg_dataloader"}
        loaders = {
            name: getattr(self._train_data, part, None) if part else self._train_data
            for name, part in parts.items()
        }
        found = {k: v.generator for k, v in loaders.items() if v and hasattr(v, "generator")}
        if hasattr(self.model, "generator"):
            found["model"] = self.model.generator
        return found

    def _further(self) -> dict[str, torch.optim.Optimizer]:
        """Those of RecVAE, which trains its encoder and its decoder in turn."""
        names = ("optimizer_encoder", "optimizer_decoder")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def _say_how_to_go_on(self, epoch: int) -> None:
        if self.goes_on_by is not None:
            how = f"; {self.goes_on_by}"
        elif self.last_file.exists():
            how = f"; go on with {command('run')} --resume={self.last_file}"
        else:
            how = ", before the first checkpoint"
        logger.info("interrupted in epoch %d%s", epoch + 1, how)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        self._write(file, epoch)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")

    def save_pretrained_model(self, epoch, saved_model_file):
        """RecBole's hook of models with a pre-training stage: its file, whose name RecBole's next
        stage is given, and one of this run alone, which is tested."""
        self._write(saved_model_file, epoch)
        if self._named:
            self._write(self.saved_model_file, epoch)

    def _write(self, file: str | Path, epoch: int) -> None:
        random, *others = processes.gather(random_states(self._generators()))
        block = table_folder.own_block(self.model, self.optimizer)
        if processes.is_main() or block is not None:
            weights = {
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "further_optimizers": {k: v.state_dict() for k, v in self._further().items()},
            }
            with block.stored(Path(file), weights) if block is not None else nullcontext():
                if processes.is_main():
                    about = self._about(epoch) | {"random": random, "random_of_others": others}
                    checkpoint.save_checkpoint(file, about | weights)
        processes.barrier()  # until it is written

    def _about(self, epoch: int) -> dict[str, Any]:
        """What a checkpoint holds beside weights and random states."""
        return {
            "config": self.config.plain(),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "stopped_early": self._stopped_early,
            "best_valid_score": float(self.best_valid_score),
            "best_valid_result": dict(self.best_valid_result or {}),
            "trained_seconds": self.trained_seconds,
            "history": self.history,
            "other_parameter": checkpoint.encode(self.model.other_parameter()),
            "launch": processes.launch_id(),
            **self._of_data,
        }

    @property
    def _of_data(self) -> dict[str, Any]:
        """What a checkpoint holds of the data set: the same after every epoch."""
        if self._kept is None:
            self._kept = data_of_training.tokens_kept(self._dataset, self.model)
        return self._kept

    def _restore_random_states(self, state: dict[str, Any]) -> None:
        states = [state["random"], *state.get("random_of_others", [])]
        known = processes.rank() < len(states)
        own = states[processes.rank() if known else 0]
        restore_random_states(own, self._generators())
        if not known:  # there were fewer processes before
            torch.manual_seed(self.config["seed"] + processes.rank() + (self.start_epoch << 16))

    def resume_checkpoint(self, resume_file):
        """Go on where `resume_file` (a `.last.pth`) ends: weights, optimiser, epoch, early
        stopping, time used and random generators."""
        state = checkpoint.load_checkpoint(resume_file, self.device, with_table=False)
        self._add_table(resume_file, state)
        self.saved_model_file = checkpoint.best_file(resume_file)
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"] or None
        self.trained_seconds = state["trained_seconds"]
        self.history = state["history"]
        # A larger `stopping_step` than before gives it time to get better.
        self._stopped_early = state["stopped_early"] and self.cur_step > self.stopping_step
        self._load_weights(state)
        further = state.get("further_optimizers", {})
        for name, optimizer in self._further().items():
            if name not in further:
                raise InputError(
                    f"{resume_file}: lacks {name}, another release wrote it; train anew"
                )
            optimizer.load_state_dict(further[name])
        if not self._further():  # else it is one of them, and set before every step
            self.optimizer.load_state_dict(state["optimizer"])
        self._resumed = {key: state[key] for key in ("random", "random_of_others")}
        logger.info("%s: goes on with epoch %d", resume_file, self.start_epoch + 1)

    def _keep_weights(self) -> None:
        """The best epoch's weights, of a training that writes no checkpoint."""
        weights = {name: value.detach().cpu().clone() for name, value in self._tensors()}
        extra = {k: v for k, v in self.model.state_dict().items() if not torch.is_tensor(v)}
        other = checkpoint.encode(self.model.other_parameter())
        self.best_weights = {"state_dict": weights | extra, "other_parameter": other}

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((k, v) for k, v in self.model.state_dict().items() if torch.is_tensor(v))

    @property
    def has_best(self) -> bool:
        """Whether the weights of the best epoch are at hand: kept, or in the file with which a
        resumed training goes on."""
        in_file = self.best_valid_result is not None and Path(self.saved_model_file).is_file()
        return self.best_weights is not None or in_file

    def _load_best(self, file: str | Path | None = None) -> None:
        """The weights of the best epoch, or those in a checkpoint."""
        if file is None and self.best_weights is not None:
            self._load_weights(self.best_weights)
            return
        file = file or self.saved_model_file
        state = checkpoint.load_weights(file)
        self._add_table(file, state)
        self._load_weights(state)
        self.logger.info(f"Loading model structure and parameters from {file}")

    def _add_table(self, file: str | Path, state: dict[str, Any]) -> None:
        """Of a checkpoint: this process's block of the item table, or all of it."""
        block = table_folder.own_block(self.model, self.optimizer)
        if block is None:
            moments = "optimizer" in state
            table_folder.add_whole(Path(file), state, self.device, moments=moments)
        else:
            block.take(Path(file), state)

    def _load_weights(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(checkpoint.decode(state["other_parameter"], self.device))
