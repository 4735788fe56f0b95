"""One run: configuration -> data set -> loaders -> model -> trainer -> result.

Imports nothing of `recbole.quick_start`, which imports ray.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

from recbole.utils import init_seed, set_color

from recbole_hstu.config.checkpoint_settings import (
    check_evaluation,
    checkpoint_settings,
    without_beginning,
)
from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import log_loaders, make_loaders
from recbole_hstu.distributed import processes
from recbole_hstu.model.parts.text_model import text_config
from recbole_hstu.records.make_record import check_segment_options, make_record
from recbole_hstu.records.run_log import RunLog
from recbole_hstu.records.run_record import write_run
from recbole_hstu.support.errors import InputError, in_a_line, packages_needed
from recbole_hstu.support.files.writable import check_run_folders
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.support.random_states import random_states_kept
from recbole_hstu.training import checkpoint, data_of_training
from recbole_hstu.training.precision import set_precision
from recbole_hstu.training.preparation import (
    build_model,
    configuration,
    in_processes,
    make_trainer,
    provide_text,
    refused_by_model,
    take_up_launch,
)
from recbole_hstu.training.silence import nothing_written
from recbole_hstu.training.views.train_view import in_train_view

logger = getLogger(__name__)


class Loaded(NamedTuple):
    """What `load` gives, in the order of RecBole's `load_data_and_model`."""

    config: Config
    model: Any
    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any


@random_states_kept()
def run(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    on_validation: Callable[[int, float], None] | None = None,
    goes_on_by: str | None = None,
    with_model: bool = False,
) -> dict[str, Any]:
    """Train a model on a data set and test it. The caller's random generators stay as they are.

    Args:
        model: a name, `package.module:Class` or a class; see `find_model`.
        dataset: its atomic files lie in `data_path/dataset`; known ones are made on demand.
        config_file_list: YAML files, later ones win.
        config_dict: options that win over the files.
        saved: whether checkpoints are written.
        on_validation: makes this a trial of a search, which is not tested and shows warnings only;
            called with epoch (from 1) and score after every validation, may raise to end the run.
        goes_on_by: what is said after Ctrl-C, in place of how to go on with `resume`.
        with_model: whether the trained model and its data come along.

    Returns:
        RecBole's `best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`,
        `record` (everything about the run), `ranks` (every test user's, or None), `log`,
        `checkpoint` (paths); `trained`, what `load` gives, if `with_model`.

    Raises:
        InputError: the input is bad, and nothing has been written; or the training went wrong.
        ProcessDied: with `nproc` above 1, a process ended before its work was done.
    """
    config = configuration(model, dataset, config_file_list, config_dict)
    check_segment_options(config)
    if config["nproc"] == 1 or processes.started():
        with processes.together(config):
            result, trained = _run(config, saved, on_validation, goes_on_by)
        return {**result, "trained": trained} if with_model else result
    if on_validation or (with_model and not saved):  # a model comes back by its checkpoint
        raise InputError("--nproc: a trial, or what is not saved, has one process; leave it out")
    call = (config.reference, dataset, config_file_list, config_dict, saved, None, goes_on_by)
    result = in_processes(config, goes_on_by, run, *call)
    return {**result, "trained": load(result["checkpoint"])} if with_model else result


def _run(
    config: Config,
    saved: bool,
    on_validation: Callable[[int, float], None] | None,
    goes_on_by: str | None,
) -> tuple[dict[str, Any], Loaded]:
    """What `run` returns, and the model with its data."""
    init_seed(config["seed"], config["reproducibility"])
    with RunLog(config, quiet=on_validation is not None) as log:
        data, train, valid, test, trainer = _prepared(config, log)
        keep_freed_memory()  # of steps; what reading the data has freed goes back
        trainer.goes_on_by = goes_on_by
        score, valid_result = _fitted(config, trainer, train, valid, saved, on_validation)
        judged = None if on_validation else test
        judge = getattr(trainer, "test", trainer.evaluate)  # boosted trees have RecBole's alone
        best = valid is not None and (saved or getattr(trainer, "has_best", False))
        show = _shows_progress(config)
        with refused_by_model(config):
            options = {"load_best_model": best, "show_progress": show}
            test_result = judge(judged, **options) if judged else None
        if best and not judged and not on_validation:
            trainer._load_best()
        getLogger().info(set_color("best valid ", "yellow") + f": {valid_result}")
        getLogger().info(set_color("test result", "yellow") + f": {test_result}")
        record, ranks = make_record(config, trainer, train, judged, valid_result, test_result)
        if processes.is_main():
            written = write_run(log.path.parent, record, ranks, name=log.path.stem)
            logger.info("result: %s", written)
    result = {
        "best_valid_score": score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": valid_result,
        "test_result": test_result,
        "record": record,
        "ranks": ranks,
        "log": log.path,
        "checkpoint": Path(trainer.saved_model_file) if saved else None,
    }
    return result, Loaded(config, trainer.model.eval(), data, train, valid, test)


def _prepared(config: Config, log: RunLog) -> tuple[Any, Any, Any, Any, Any]:
    """Data set, three loaders and trainer; from here on the input is good, the log is written."""
    words = getLogger()  # RecBole's: they go to the file
    set_precision(config)
    if config["log_wandb"]:
        with packages_needed("log_wandb"):
            importlib.import_module("wandb")
    check_run_folders(config)
    words.info(config)
    data = processes.main_first(lambda: load_dataset(config))
    words.info(data)
    train, valid, test = make_loaders(config, data)
    log_loaders(config)
    take_up_launch(config)
    if config["resume"]:
        state = checkpoint.load_resumable(config["resume"])
        data_of_training.check_tokens(state, config["resume"], train._dataset)
        data_of_training.check_interactions(state, config["resume"], train._dataset)
    processes.main_first(lambda: provide_text(config, train._dataset))
    network = build_model(config, train._dataset)
    words.info(network)
    train = in_train_view(config, train, network)
    log.open()
    trainer = make_trainer(config, network)
    log.say_what_runs(config, data, network)
    if config["resume"]:
        trainer.resume_checkpoint(config["resume"])
    return data, train, valid, test, trainer


def _fitted(config: Config, trainer: Any, train: Any, valid: Any, saved: bool, watch: Any) -> Any:
    """The best validation's score and result."""

    def counted(epoch: int, score: float) -> None:  # RecBole counts from 0
        watch(epoch + 1, score)

    more = {"callback_fn": counted} if watch else {}  # boosted trees know none
    with refused_by_model(config):
        show = _shows_progress(config)
        return trainer.fit(train, valid, saved=saved, show_progress=show, **more)


def _shows_progress(config: Config) -> bool:
    """A bar is for a terminal: elsewhere every one of its states would be a line."""
    return bool(config["show_progress"]) and sys.stderr.isatty()


@random_states_kept()
def load(
    file: str | Path,
    model: type | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> Loaded:
    """A trained model in evaluation mode, and the data it was trained and tested on.

    Args:
        file: a checkpoint; everything it was trained with is in it.
        model: its class, where the `package.module:Class` in the checkpoint cannot be imported.
        config_dict: options that win over the checkpoint's, such as `protocol` or `data_path`.

    Raises:
        InputError: no checkpoint, a model or a data set that is not there or is another one now,
            or options that change the weights.
    """
    state = checkpoint.load_checkpoint(file)
    plain, options = state["config"], dict(config_dict or {})
    check_evaluation(file, plain, options)
    base = checkpoint_settings(plain, options.get("protocol"))
    config = Config(model or plain["model_class"], plain["dataset"], None, options, base)
    without_beginning(config)
    init_seed(config["seed"], config["reproducibility"])
    set_precision(config)
    data = load_dataset(config)
    data_of_training.check_tokens(state, file, data)
    loaders = make_loaders(config, data)
    data_of_training.warn_of_what_was_seen(file, state, config, loaders[0]._dataset)
    provide_text(config, loaders[0]._dataset)
    network = build_model(config, loaders[0]._dataset)
    try:
        network.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        changed = ", ".join(f"--{key}" for key in options if plain.get(key) != config[key])
        why = f"leave out {changed}" if changed else in_a_line(error)[:200]
        raise InputError(f"{file}: its weights are of other options; {why}") from error
    network.load_other_parameter(checkpoint.decode(state["other_parameter"], config["device"]))
    return Loaded(config, network.eval(), data, *loaders)


@random_states_kept()
def evaluate(
    file: str | Path,
    model: type | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, float] | None]:
    """Rank the validation and the test users of a checkpoint; nothing is written.

    Args: see `load`.

    Returns:
        `valid_result` and `test_result` under RecBole's names, None where there are no such
        users. With the checkpoint's own options, `test_result` is that of its training.

    Raises:
        InputError: see `load`.
    """
    config, network, _, train, valid, test = load(file, model, config_dict)
    config["checkpoint_dir"] = str(Path(file).parent)  # RecBole's trainer makes the folder
    with refused_by_model(config), nothing_written(config):
        trainer = make_trainer(config, network)
        trainer.eval_collector.data_collect(train)
        judged = {"valid_result": valid, "test_result": test}
        return {
            name: trainer.evaluate(loader, load_best_model=False) if loader else None
            for name, loader in judged.items()
        }


def encode(
    model: str = "HSTUText",
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> Path:
    """Make the side-feature file that `run` would make, or find it; returns its path.

    Raises:
        InputError: a model that reads no text, a `text_features_file` that is named, or see
            `ensure_text_features`.
    """
    config = text_config(model, dataset, config_file_list, config_dict)
    if config["text_features_file"]:
        raise InputError("text_features_file: names what is to be made; leave it out to encode")
    with RunLog(config) as log:
        data = load_dataset(config)
        log.show_counts()
        provide_text(config, data)
    if not config["text_features_file"]:
        raise InputError(f"--model={model}: with these options it reads no text vectors")
    return Path(config["text_features_file"])
