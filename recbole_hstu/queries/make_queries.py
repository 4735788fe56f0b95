"""`recbole-hstu queries`: from a data set and a language model to the queries of its test users."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.utils import init_seed

from recbole_hstu.config.config import Config
from recbole_hstu.config.properties import take_declared
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.files.item_text import texts_of_items
from recbole_hstu.data.files.query_file import write_queries
from recbole_hstu.queries.language_model import LanguageModel
from recbole_hstu.queries.learned_from import check_learned_from, learned_from
from recbole_hstu.queries.prompts import INSTRUCTION, answer, histories, prompt
from recbole_hstu.records.run_log import RunLog
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.files.writable import check_file, check_folders
from recbole_hstu.support.yaml_values import merge_yaml, merged

logger = logging.getLogger(__name__)


def make_queries(
    dataset: str | None,
    config_file_list: Sequence[str | Path] | None,
    config_dict: Mapping[str, Any],
) -> Path:
    """Train the LoRA weights, or read them, and write the queries file; returns its path.

    Args:
        dataset: its `.item` file gives the texts, its split the histories.
        config_file_list: YAML files, later ones win.
        config_dict: `out`, the options of `properties/queries/llm.yaml`, and options of `run`.

    Raises:
        InputError: bad options, no such model, no item text, an adapter that was learned from
            something else, a folder that cannot be written; there is no file then.
    """
    if "model" in config_dict:
        raise InputError("model: queries are written by --llm; leave it out")
    rest = merged(merge_yaml(config_file_list), config_dict)
    rest.pop("model", None)  # a file that `run` reads, too, may name GLoSS
    own, out = own_options(rest), rest.pop("out", None)
    config = Config("LIS", dataset, None, rest, taken_out={*own, "out"})
    path = Path(out or Path(config["output_path"]) / config["dataset"] / "queries.jsonl")
    _check_places(path, own["adapter"])
    init_seed(config["seed"], config["reproducibility"])
    with RunLog(config) as log:
        data = load_dataset(config)
        train, _, test = data.build()
        log.show_counts()
        rows = list(histories(test, config))
        if not rows:
            raise InputError("eval_args: the split has no test users, so nobody to write for")
        texts = texts_of_items(config, data)
        language_model = _trained(own, config, train, texts)
        users = data.field2id_token[data.uid_field]
        queries: dict[str, list[str]] = {}
        for start in range(0, len(rows), own["llm_batch_size"]):
            part = rows[start : start + own["llm_batch_size"]]
            asked = [prompt([texts[i] for i in row], own["instruction"]) for _, row, _ in part]
            found = language_model.generate(asked, beams=own["beams"], new_tokens=own["new_tokens"])
            queries |= {str(users[user]): q for (user, *_), q in zip(part, found, strict=True)}
        write_queries(path, queries)
    return path


def own_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the language model, taken out of those given.

    Raises:
        InputError: a value that makes no sense, or no model.
    """
    own = take_declared(PROPERTIES / "queries" / "llm.yaml", given)
    if own["llm"] is None:
        raise InputError("llm: name a causal language model, as in --llm=FOLDER")
    _check_room(own["new_tokens"], own["llm_max_length"])
    if own["adapter"] is not None and Path(own["adapter"]).is_file():
        raise InputError(f"adapter: {own['adapter']}: is a file; name a folder, or a new one")
    own["instruction"] = own["instruction"] or INSTRUCTION
    return own


def _check_room(new_tokens: int, max_length: int) -> None:
    if new_tokens >= max_length:
        raise InputError(
            f"new_tokens: {new_tokens} leave no room for a prompt, llm_max_length is {max_length}"
        )


def _check_places(out: Path, adapter: str | None) -> None:
    """Whether the queries and new weights can be written, before hours go by.

    Raises:
        InputError: they cannot.
    """
    check_file(out)
    if adapter is not None and not Path(adapter).exists():
        check_folders(str(Path(adapter).parent), option="--adapter")


def _trained(own: Mapping[str, Any], config: Any, train: Any, texts: list[str]) -> LanguageModel:
    """The language model with the LoRA weights of `adapter`, or with newly learned ones."""
    device, folder = str(config["device"]), own["adapter"]
    lines = [
        prompt([texts[item] for item in row], own["instruction"]) + answer(texts[target])
        for _, row, target in histories(train, config)
    ]
    origin, there = learned_from(own, config, lines), folder is not None and Path(folder).is_dir()
    if there:
        check_learned_from(folder, origin)
    found = LanguageModel.load(str(own["llm"]), device, max_length=own["llm_max_length"])
    _check_room(own["new_tokens"], found.max_length)
    if there:
        found.read_lora(folder)
        return found
    found.add_lora(own["lora_rank"], own["lora_alpha"])
    losses = found.train(
        lines,
        epochs=own["llm_epochs"],
        batch_size=own["llm_batch_size"],
        learning_rate=own["llm_learning_rate"],
        warmup_steps=own["warmup_steps"],
        seed=config["seed"],
        progress=bool(config["show_progress"]),
    )
    for epoch, loss in enumerate(losses, 1):
        logger.info("llm: epoch %d of %d, loss %.4f", epoch, own["llm_epochs"], loss)
    if folder is not None:
        found.write_lora(folder, origin)
    return found
