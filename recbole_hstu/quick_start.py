"""One run: configuration -> data set -> loaders -> model -> trainer -> result.

Imports nothing of `recbole.quick_start`, which imports ray.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.utils import init_seed, set_color

import dataset_converters
from recbole_hstu.config.config import PROPERTIES, Config
from recbole_hstu.data.loaders import create_dataset, make_loaders
from recbole_hstu.distributed import processes
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.records.finished_run import check_segments, run_record
from recbole_hstu.records.run_log import RunLog
from recbole_hstu.records.run_record import write_run
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training import checkpoint
from recbole_hstu.training.precision import set_precision
from recbole_hstu.training.trainer import trainer_class


def run(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    on_validation: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train a model on a data set and test it.

    Args:
        model: one of our models, one of RecBole's, a named configuration or a class.
        dataset: its atomic files lie in `data_path/dataset`; known ones are made on demand.
        config_file_list: YAML files, later ones win.
        config_dict: options that win over the files.
        saved: whether checkpoints are written (to `checkpoint_dir`).
        on_validation: makes this a trial of a search, which is not tested and shows warnings only;
            called with epoch (from 0) and score after every validation, may raise to end the run.

    Returns:
        RecBole's `best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`,
        and `record` (everything about the run), `ranks` (every test user's, or None), `log`,
        `checkpoint` (paths).

    Raises:
        InputError: the input is bad; nothing has been written.
        ProcessDied: with `nproc` above 1, a process ended before its work was done.
    """
    config = Config(model, dataset, config_file_list, config_dict)
    check_segments(config)
    if config["nproc"] == 1 or processes.started():
        with processes.together(config):
            return _run(config, saved, on_validation)
    if on_validation:
        raise InputError("--nproc: a trial of a search trains in one process; leave it out")
    from recbole_hstu.distributed.launcher import launch

    call = (model, dataset, config_file_list, config_dict, saved)
    return launch(config["nproc"], config["max_restarts"], _run_in_process, *call)


def _run_in_process(*call: Any) -> dict[str, Any]:
    """What each of the processes does that `run` starts: the same run, its own share."""
    # RecBole calls what newer releases of torch and pandas announce the end of.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    return run(*call)


def _run(
    config: Config, saved: bool, on_validation: Callable[[int, float], None] | None
) -> dict[str, Any]:
    init_seed(config["seed"], config["reproducibility"])
    keep_freed_memory()
    with RunLog(config, quiet=on_validation is not None) as log:
        set_precision(config)
        logger = getLogger()
        logger.info(config)
        data = processes.main_first(lambda: load_dataset(config))
        logger.info(data)
        train, valid, test = make_loaders(config, data)
        _log_loaders(config)
        _take_up_launch(config)
        if config["resume"]:
            state = checkpoint.load_checkpoint(config["resume"])
            checkpoint.check_fits(state, config["resume"], config, train._dataset)
        check_folders("log", "log_tensorboard", config["checkpoint_dir"])
        processes.main_first(lambda: provide_text(config, train._dataset))
        network = build_model(config, train._dataset)
        logger.info(network)
        log.open()
        trainer = trainer_class(config["MODEL_TYPE"], config.model_class.__name__)(config, network)
        if config["resume"]:
            trainer.resume_checkpoint(config["resume"])
        show = config["show_progress"]
        watch = {"callback_fn": on_validation} if on_validation else {}  # boosted trees know none
        score, valid_result = trainer.fit(train, valid, saved=saved, show_progress=show, **watch)
        best = saved and valid is not None
        test = None if on_validation else test
        judge = getattr(trainer, "test", trainer.evaluate)  # boosted trees have RecBole's alone
        test_result = judge(test, load_best_model=best, show_progress=show) if test else None
        logger.info(set_color("best valid ", "yellow") + f": {valid_result}")
        logger.info(set_color("test result", "yellow") + f": {test_result}")
        record, ranks = run_record(config, trainer, train, test, valid_result, test_result)
        if processes.is_main():
            written = write_run(log.path.parent, record, ranks, name=log.path.stem)
            logger.info(set_color("Result", "blue") + f": {written}")
    return {
        "best_valid_score": score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": valid_result,
        "test_result": test_result,
        "record": record,
        "ranks": ranks,
        "log": log.path,
        "checkpoint": Path(trainer.saved_model_file) if saved else None,
    }


def _take_up_launch(config: Config) -> None:
    """Where torch's launcher has started the processes again: go on from the last checkpoint."""
    folder, launch = config["checkpoint_dir"], processes.launch_id()
    found = processes.from_main(
        checkpoint.last_of_launch(folder, launch) if launch and processes.is_main() else None
    )
    if found is not None:
        getLogger().warning(f"Started again, goes on from {found}")
        config["resume"] = str(found)


def encode(
    model: str = "HSTUText",
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> Path:
    """Make the side-feature file that `run` would make, or find it; returns its path.

    Raises:
        InputError: a model that reads no text, or see `ensure_text_features`.
    """
    config = Config(model, dataset, config_file_list, config_dict)
    if not getattr(config.model_class, "needs_text_features", False):
        raise InputError(f"--model={model}: reads no item text; leave it out or name HSTUText")
    with RunLog(config):
        provide_text(config, load_dataset(config))
    if not config["text_features_file"]:
        raise InputError(f"--model={model}: with these options it reads no text vectors")
    return Path(config["text_features_file"])


def load_dataset(config: Config) -> Any:
    """The data set of a configuration; known ones are downloaded and converted when missing.

    Raises:
        InputError: there is no such data set, or its files are not what they should be.
    """
    folder = Path(config["data_path"])
    if not any(folder.glob(f"{config['dataset']}*.inter")):
        try:
            made = dataset_converters.convert_by_name(config["dataset"], folder.parent)
        except dataset_converters.ConversionError as error:
            raise InputError(f"--dataset={config['dataset']}: {error}") from error
        if not made:
            raise _unknown_dataset(config["dataset"], folder)
    try:
        return create_dataset(config)
    except InputError:
        raise
    except (ValueError, KeyError) as error:  # RecBole's own checks
        reason = in_a_line(error.args[0] if error.args else error)
        raise InputError(f"--dataset={config['dataset']}: {reason}") from error


def _unknown_dataset(name: str, folder: Path) -> InputError:
    here = [p.parent.name for p in folder.parent.glob("*/*.inter")]
    known = [path.stem for path in (PROPERTIES / "dataset").glob("*.yaml")]
    near = difflib.get_close_matches(name, [*here, *known], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return InputError(
        f"--dataset={name}: {folder / name}.inter does not exist; {hint}"
        "your own data become atomic files with: python -m dataset_converters csv --help"
    )


def provide_text(config: Config, dataset: Any) -> None:
    """Make sure that a model that reads item text finds its side-feature file.

    Raises:
        InputError: see `ensure_text_features`.
    """
    wanted = getattr(config.model_class, "needs_text_features", False)
    without = config["fusion"] == "id_only" or config["retriever"] == "bm25"
    if not wanted or without or config["text_features_file"]:
        return
    # The data set that RecBole's wheel carries is read only.
    output = Path(config["output_path"]) / config["dataset"]
    file = ensure_text_features(
        config["dataset"],
        config["data_path"],
        config.final_config_dict,
        tokens=dataset.field2id_token[dataset.iid_field],
        output_folder=output,
    )
    config["text_features_file"] = str(file)


def build_model(config: Config, dataset: Any) -> torch.nn.Module:
    """The model of a configuration, on its device, its weights drawn from the seed.

    Raises:
        InputError: the model needs a package that is not installed, or its own checks fail.
    """
    init_seed(config["seed"], config["reproducibility"])
    try:
        return config.model_class(config, dataset).to(config["device"])
    except ModuleNotFoundError as error:  # KGAT and its like need dgl
        raise InputError(
            f"--model={config['model']}: needs the package {error.name}; pip install {error.name}"
        ) from error


def check_folders(*names: str) -> None:
    """Whether the run will be able to write, before it writes anything.

    Raises:
        InputError: a folder can be neither made nor written.
    """
    for name in names:
        folder = Path(name)
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"{name}: the folder cannot be written ({folder} is in the way); run from a "
                "folder of your own, or choose another with --checkpoint_dir"
            )


def _log_loaders(config: Config) -> None:
    """RecBole's two lines about the loaders, and ours about the protocol."""
    for phase, keys in (
        ("Training", ("train_batch_size", "train_neg_sample_args")),
        ("Evaluation", ("eval_batch_size", "eval_args", "protocol", "mask_seen")),
    ):
        shown = " ".join(
            f"{set_color(key, 'cyan')} = {set_color(f'[{config[key]}]', 'yellow')}" for key in keys
        )
        getLogger().info(set_color(f"[{phase}]: ", "pink") + shown)
