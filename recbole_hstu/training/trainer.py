"""RecBole's trainers with plain checkpoints, exact resuming, a time budget and the uncut MRR."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import dict2str, early_stopping, get_local_time, get_trainer, set_color

from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.distributed.shared_loss import SharedLoss
from recbole_hstu.evaluation.collector import RankEvaluator, SharedCollector
from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.evaluation.score_blocks import ScoreBlocks, SharedScoreBlocks
from recbole_hstu.support.commands.interrupts import Interrupts
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.divergence import diverged, has_finite_weights
from recbole_hstu.training.epoch import EpochSteps
from recbole_hstu.training.epoch_lines import EpochLines
from recbole_hstu.training.resumable import Resumable
from recbole_hstu.training.silence import write_nothing
from recbole_hstu.training.tables.item_table import check_sharded, lazy_adamw
from recbole_hstu.training.views.narrow_rows import score_narrow_rows
from recbole_hstu.training.weight_average import average_weights, averaged, take_average

logger = logging.getLogger(__name__)


class PlainTrainer(EpochSteps, Resumable, Trainer):
    """RecBole's Trainer; `trainer_class` puts it before RecBole's other trainers, too."""

    _own_loop = False
    _in_blocks = False  # whether an evaluation goes over blocks of items
    goes_on_by: str | None = None  # what a study says after Ctrl-C, in place of --resume

    def __init__(self, config, model):
        if not processes.is_main():
            write_nothing(config)
        # RecBole looks first and makes it then: of several processes one would fail.
        Path(config["checkpoint_dir"]).mkdir(parents=True, exist_ok=True)
        super().__init__(config.masked(), model)  # it hands all of it to wandb
        self.config = config
        self.eval_collector, self.evaluator = SharedCollector(config), RankEvaluator(config)
        if processes.count() > 1:
            check_sharded(model, config)
            self._share_with_others()
        name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{config.digest()}"
        self._name = processes.from_main(name)
        self.saved_model_file = str(Path(self.checkpoint_dir, f"{self._name}-{config['seed']}.pth"))
        self.trained_seconds, self.history = 0.0, []
        score_narrow_rows(model, config)
        self._interrupts = Interrupts()
        self._lines = EpochLines(str(config["valid_metric"]).lower())

    def _share_with_others(self) -> None:
        self._shared_loss = SharedLoss(self.model, self.device)
        # Dropout differs from process to process. Numpy's and Python's generators stay alike:
        # RecBole draws its negatives and crops from them, for the whole batch in every process.
        if processes.rank():
            torch.manual_seed(self.config["seed"] + processes.rank())
        self.logger.info(f"{processes.count()} processes share every batch")

    def _build_optimizer(self, **kwargs):
        """RecBole's, with the betas of adam and adamw (`adam_betas`), fused; `lazy_adamw`; and an
        average of the weights (`weight_average`)."""
        learner = str(kwargs.get("learner", self.learner)).lower()
        decay = self.config["weight_average"]
        if decay is None:
            return self._optimizer_of(learner, **kwargs)
        own_way = type(self)._own_loop or "params" in kwargs  # RecVAE has three optimizers
        if learner not in ("adam", "adamw") or own_way:
            what = "a training of its own" if own_way else f"learner: {learner}"
            name = self.config["model"]
            raise InputError(f"weight_average: {name} has {what}; it takes adam or adamw")
        optimizer = self._optimizer_of(learner, **kwargs)
        average_weights(optimizer, decay)
        return optimizer

    def _optimizer_of(self, learner: str, **kwargs):
        params = kwargs.get("params", self.model.parameters())
        rate: Any = kwargs.get("learning_rate", self.learning_rate)
        decay: Any = kwargs.get("weight_decay", self.weight_decay)
        if learner == "lazy_adamw":
            return lazy_adamw(self.model, self.config, params, rate, decay)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(learner)
        if kind is None or self.config["adam_betas"] is None:
            return super()._build_optimizer(**kwargs)
        betas = tuple(self.config["adam_betas"])
        return kind(params, lr=rate, weight_decay=decay, betas=betas, fused=True)

    def fit(
        self,
        train_data,
        valid_data=None,
        verbose=True,
        saved=True,
        show_progress=False,
        callback_fn=None,
    ):
        """RecBole's loop: an epoch, a validation, a checkpoint; early stopping.

        Beside RecBole's: stops after the epoch that passes `train_seconds`, and keeps the state
        of the last epoch in `last_file`. Without validation data the last epoch counts.

        Returns:
            The best validation score and result, as RecBole does.
        """
        self._train_data, self._dataset, self._kept = train_data, train_data._dataset, None
        with self._name_of_its_own(saved):
            if saved:
                logger.info("checkpoints: %s and .last.pth", self.saved_model_file)
            return self._fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)

    def _fit(self, train_data, valid_data, verbose, saved, show_progress, callback_fn):
        if type(self)._own_loop:
            logger.info("this model has a training loop of its own: no time limit, no resume")
            best = super().fit(train_data, valid_data, verbose, saved, show_progress, callback_fn)
            if saved and not Path(self.saved_model_file).exists():  # of a pre-training's last epoch
                self._save_checkpoint(len(self.history) - 1, verbose=verbose)
            return best
        self.eval_collector.data_collect(train_data)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        if self._resumed is not None:
            self._restore_random_states(self._resumed)
        epoch = self.start_epoch
        try:
            with self._interrupts:
                while epoch < self.epochs and not (self._stopped_early or self._out_of_time):
                    self._run_epoch(epoch, valid_data, verbose, saved, show_progress, callback_fn)
                    epoch += 1
        except KeyboardInterrupt:
            self._say_how_to_go_on(epoch)
            raise
        if self.best_valid_result is None:  # the last epoch counts
            take_average(self.optimizer)
        has_best = self.best_valid_result is not None and Path(self.saved_model_file).exists()
        if saved and not processes.from_main(has_best):
            self._save_checkpoint(epoch - 1, verbose=verbose)
        if verbose:
            self._lines.of_end(self.history, self.best_valid_result, self._why_it_ended)
        self._add_hparam_to_tensorboard(self.best_valid_score)
        return self.best_valid_score, self.best_valid_result

    @property
    def _out_of_time(self) -> bool:
        limit = self.config["train_seconds"]
        return limit is not None and self.trained_seconds >= limit

    @property
    def _why_it_ended(self) -> str:
        if self._stopped_early:
            return "validation got no better"
        limit = self.config["train_seconds"]
        return f"train_seconds={limit} are over" if self._out_of_time else f"epochs={self.epochs}"

    def _run_epoch(self, epoch, valid_data, verbose, saved, show_progress, callback_fn) -> None:
        started = time.time()
        loss = self._train_epoch(self._train_data, epoch, show_progress=show_progress)
        ended = time.time()
        self.trained_seconds += ended - started
        self.trained_seconds = processes.from_main(self.trained_seconds)  # the clocks differ
        total = sum(loss) if isinstance(loss, tuple) else loss
        self.train_loss_dict[epoch] = total
        if verbose:
            self.logger.info(self._generate_train_loss_output(epoch, started, ended, loss))
        self._add_train_loss_to_tensorboard(epoch, loss)
        shown = {"epoch": epoch, "train_loss": loss, "train_step": epoch}
        self.wandblogger.log_metrics(shown, head="train")
        if not all(processes.gather(has_finite_weights(self.model))):
            # The last step did it: there is nothing to keep.
            raise diverged(
                f"weights are NaN after epoch {epoch + 1}", self.optimizer, self.last_file
            )
        entry = {"epoch": epoch, "seconds": self.trained_seconds, "train_loss": total}
        self.history.append(entry)
        if valid_data and self.eval_step > 0 and (epoch + 1) % self.eval_step == 0:
            with averaged(self.optimizer):
                score, result = self._validate(epoch, valid_data, verbose, saved, show_progress)
            entry["valid"] = dict(result)
            if callback_fn:
                callback_fn(epoch, score)
        if verbose:
            self._lines.of_epoch(entry, self.epochs)
        if saved:
            self._write(self.last_file, epoch)

    def _validate(self, epoch, valid_data, verbose, saved, show_progress):
        started = time.time()
        score, result = self._valid_epoch(valid_data, show_progress=show_progress)
        score, result = processes.from_main((score, result))
        self.best_valid_score, self.cur_step, stop, improved = early_stopping(
            score,
            self.best_valid_score,
            self.cur_step,
            max_step=self.stopping_step,
            bigger=self.valid_metric_bigger,
        )
        if verbose:
            took = f"{set_color('time', 'blue')}: {time.time() - started:.2f}s"
            shown = f"{set_color('valid_score', 'blue')}: {score:f}"
            said = set_color(f"epoch {epoch + 1} evaluating", "green")
            self.logger.info(f"{said} [{took}, {shown}]")
            self.logger.info(set_color("valid result", "blue") + ": \n" + dict2str(result))
        self.tensorboard.add_scalar("Vaild_score", score, epoch)  # RecBole's name for it
        self.wandblogger.log_metrics({**result, "valid_step": epoch}, head="valid")
        if improved:
            self.best_valid_result = result
            if saved:
                self._save_checkpoint(epoch, verbose=verbose)
            else:
                self._keep_weights()
        if stop:
            self._stopped_early = True
        return score, result

    def _generate_train_loss_output(self, epoch_idx, s_time, e_time, losses):
        """RecBole's, which counts from 0; its own loops tell of their epochs by it alone."""
        if type(self)._own_loop:
            self.trained_seconds += e_time - s_time
            total = sum(losses) if isinstance(losses, tuple) else losses
            entry = {"epoch": epoch_idx, "seconds": self.trained_seconds, "train_loss": total}
            self.history.append(entry)
        return super()._generate_train_loss_output(epoch_idx + 1, s_time, e_time, losses)

    def _add_hparam_to_tensorboard(self, best_valid_result):
        config, self.config = self.config, self.config.masked()
        super()._add_hparam_to_tensorboard(best_valid_result)
        self.config = config

    @property
    def converged(self) -> bool | None:
        """Whether validation had stopped to get better; None without validation."""
        if self.best_valid_result is None:
            return None
        return self.cur_step > self.stopping_step

    def test(self, test_data, load_best_model=True, show_progress=False):
        """`evaluate`, which also keeps the shortest of the lists that `topk` asks for."""
        if set(self.config["eval_args"]["mode"].values()) == {"full"}:
            self.eval_collector.list_length = min(self.config["topk"])
        return self.evaluate(test_data, load_best_model, show_progress=show_progress)

    def _full_sort_batch_eval(self, batched_data):
        """RecBole's; of a model that compares vectors, scores that exist block by block."""
        if not self._in_blocks:
            return super()._full_sort_batch_eval(batched_data)
        rows, seen, target_row, target = batched_data
        inputs, candidates = self.model.item_tables()
        users = self.model.user_vectors(rows.to(self.device), inputs)
        if seen is not None:
            seen = tuple(part.to(self.device) for part in seen)
        blocks = blocks_of(self.model)
        if blocks is None:
            return rows, ScoreBlocks(users, candidates, seen=seen), target_row, target
        scores = SharedScoreBlocks(users, candidates, blocks=blocks, seen=seen)
        return rows, scores, target_row, target

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's evaluation, plus `mrr`, the MRR over the whole ranking."""
        if not eval_data:
            return None
        if load_best_model:
            self._load_best(model_file)
        self.eval_collector.clear()
        self.eval_collector.shared = getattr(eval_data, "is_share", False)
        self._in_blocks = getattr(eval_data, "in_blocks", False)
        with getattr(self.model, "fixed_items", nullcontext)():
            result = super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        result = {key: float(value) for key, value in result.items()}
        if self.eval_collector.partial:  # ranks of a part would pass for those of all
            self.eval_collector.ranks, self.eval_collector.lists = [], []
        if self.eval_collector.ranks:
            rank = torch.cat(self.eval_collector.ranks)
            reciprocal = (1.0 / rank.double()).masked_fill(rank == MISSED, 0)
            result["mrr"] = round(reciprocal.mean().item(), self.config["metric_decimal_place"])
        return result


@cache
def trainer_class(model_type: Any, model_name: str) -> type:
    """RecBole's trainer of a model with `PlainTrainer` before it."""
    base = get_trainer(model_type, model_name)
    if not issubclass(base, Trainer):
        return base  # gradient-boosted trees: no epochs, no tensors
    own = {
        "_own_loop": base.fit is not Trainer.fit,
        "_own_steps": base._train_epoch is not Trainer._train_epoch,
    }
    return type(f"Plain{base.__name__}", (PlainTrainer, base), own)
