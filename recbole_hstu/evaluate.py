"""A checkpoint's metrics, under its own protocol or another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_hstu.quick_start import load, make_trainer
from recbole_hstu.support.errors import packages_needed
from recbole_hstu.training.silence import nothing_written


def evaluate(
    file: str | Path,
    model: type | None = None,
    config_dict: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, float] | None]:
    """Rank the validation and the test users of a checkpoint; nothing is written.

    Args: see `quick_start.load`.

    Returns:
        `valid_result` and `test_result` under RecBole's names, None where there are no such
        users. With the checkpoint's own options, `test_result` is that of its training; with
        sampled candidates (`mode: uni100`) others are drawn.

    Raises:
        InputError: see `quick_start.load`.
    """
    config, network, _, train, valid, test = load(file, model, config_dict)
    config["checkpoint_dir"] = str(Path(file).parent)  # RecBole's trainer makes the folder
    with packages_needed(f"--model={config['model']}"), nothing_written(config):
        trainer = make_trainer(config, network)
        trainer.eval_collector.data_collect(train)
        judged = {"valid_result": valid, "test_result": test}
        return {
            name: trainer.evaluate(loader, load_best_model=False) if loader else None
            for name, loader in judged.items()
        }
