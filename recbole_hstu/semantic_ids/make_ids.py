"""`recbole-hstu ids`: from a data set's text vectors to its semantic-id file."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hstu import __version__
from recbole_hstu.config.config import Config
from recbole_hstu.config.properties import take_declared
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.files.atomic_file import column_names, form_of
from recbole_hstu.data.files.item_rows import rows_of
from recbole_hstu.data.files.item_text import read_items
from recbole_hstu.data.files.semantic_id_file import (
    METHODS,
    read_quantiser,
    semantic_ids_path,
    write_semantic_ids,
)
from recbole_hstu.data.files.side_feature_file import TextFeatures, all_alike, read_text_features
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.model.parts.text_model import text_config
from recbole_hstu.records.run_log import RunLog
from recbole_hstu.semantic_ids.further_ids import MODULES, further_ids, with_options_of
from recbole_hstu.semantic_ids.quantised import told_apart
from recbole_hstu.semantic_ids.residual_kmeans import unit_length
from recbole_hstu.semantic_ids.worth import Worth, worth
from recbole_hstu.support.errors import InputError, first_ten
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.files.writable import check_file
from recbole_hstu.support.yaml_values import merge_yaml, merged

_OWN = ("method", "out", "quantiser")  # options, beside those of the method
_CATEGORIES = ("categories", "category", "genres", "genre", "class")
_MOST = 1 << 20  # codes of a level, or the width of a layer

logger = logging.getLogger(__name__)


def make_ids(
    dataset: str | None,
    config_file_list: Sequence[str | Path] | None,
    config_dict: Mapping[str, Any],
) -> tuple[Path, str, Worth]:
    """Make the semantic ids of every item that has a text vector.

    Args:
        dataset: its `.item` file gives texts and categories.
        config_file_list: YAML files, later ones win.
        config_dict: `method`, its options (`properties/ids`), `out`, `quantiser` (an earlier file,
            which gives further items their codes), `model`, whose text options count (HSTUText by
            default), and options of `run`; they win over the files.

    Returns:
        The file, what the method says of its training, and what the codes are worth.

    Raises:
        InputError: bad options, a model that reads no text, vectors that are all alike, an item
            without one; there is no file.
    """
    given = merged(merge_yaml(config_file_list), config_dict)
    earlier, out = given.pop("quantiser", None), given.pop("out", None)
    method, own, rest = split_options(with_options_of(earlier, given) if earlier else given)
    config = text_config(rest.pop("model", None) or "HSTUText", dataset, None, rest, {*own, *_OWN})
    path = Path(out or semantic_ids_path({**config.final_config_dict, "semantic_ids": method}))
    check_file(path)
    with RunLog(config) as log:
        data = load_dataset(config)
        log.show_counts()
        features = _features(config, data.field2id_token[data.iid_field])
        vectors = features.vectors.astype(np.float32)
        _look_at(features.path, vectors)
        categories = _categories(config, features, own["category_field"])
        if earlier:
            ids, note = further_ids(earlier, features.tokens, vectors), ""
            tensors, before = read_quantiser(earlier)
        else:
            made = MODULES[method].quantise(vectors, own, config["seed"])
            ids, note, tensors, before = told_apart(made.codes), made.note, made.tensors, {}
        value = worth(ids[:, :-1], own["level_sizes"], categories, config["seed"])
        provenance = _provenance(method, own, before.get("seed", config["seed"]), features)
        sizes = [*own["level_sizes"], int(ids[:, -1].max()) + 1]
        write_semantic_ids(path, features.tokens, ids, sizes, provenance, quantiser=tensors)
    return path, note, value


def split_options(given: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The method, its options, and those that are not its own.

    Raises:
        InputError: an unknown method, a value that makes no sense.
    """
    rest = dict(given)
    method = rest.pop("method", METHODS[0])
    if method not in METHODS:
        raise InputError(f"--method={method}: is not one of {', '.join(METHODS)}")
    own = take_declared(PROPERTIES / "ids" / f"{method}.yaml", rest)
    for name in ("level_sizes", "hidden_sizes"):
        sizes = own.get(name, [1])
        least = 2 if name == "level_sizes" else 1
        if not sizes or any(type(n) is not int or not least <= n <= _MOST for n in sizes):
            raise InputError(f"{name}: {sizes} must be whole numbers from {least} to {_MOST:,}")
    return method, own, rest


def _features(config: Config, items: Sequence[str]) -> TextFeatures:
    """The text vectors of all items of the `.item` file, or those of a file that is named.

    Args:
        items: of the data set; every one must have a vector.
    """
    file = config["text_features_file"] or ensure_text_features(
        config["dataset"],
        config["data_path"],
        config.final_config_dict,
        output_folder=Path(config["output_path"]) / config["dataset"],
    )
    features = read_text_features(file)
    absent = np.flatnonzero(rows_of(features.tokens, items)[1:] < 0) + 1
    if len(absent):
        remedy = "give them a text"
        if config["text_features_file"]:
            remedy = "add them to the file"
        elif config["text_missing"] == "zero":
            remedy = "set text_missing: empty"
        raise InputError(
            f"{file}: {len(absent):,} of {len(items) - 1:,} items have no text vector: "
            f"{first_ten([items[item] for item in absent])}; an id is made from one: "
            f"{remedy}, or filter them out"
        )
    return features


def _look_at(path: Path, vectors: np.ndarray) -> None:
    """Refuse vectors that are all alike; count those without a direction."""
    directions = unit_length(vectors)
    without = int((~directions.any(axis=1)).sum())
    if without:
        logger.warning("%s: %s items have a vector of length 0, so the same codes", path, without)
    if all_alike(directions):
        raise InputError(
            f"{path}: the text vectors of all {len(vectors):,} items are alike, and ids would tell "
            "nothing; encode texts that differ (item_text says of which columns)"
        )


def _categories(config: Config, features: TextFeatures, field: str | None) -> list[Any] | None:
    """Of the items of the features; None where no column holds categories."""
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file() and field is None:
        return None  # the vectors came in a file of their own
    form = form_of(config)
    columns = column_names(path, **form)
    if field is not None and field not in columns:
        raise InputError(f"category_field: {path} has no column {field}; {', '.join(columns)}")
    found = field or next((name for name in _CATEGORIES if name in columns), None)
    if found is None:
        return None
    frame = read_items(path, [found], item_field=config["ITEM_ID_FIELD"], **form)
    values = frame[found].reindex(features.tokens)
    if field is not None and not values.notna().any():
        raise InputError(f"category_field: {path}: the column {field} holds no category")
    return [None if value != value else value for value in values]


def _provenance(
    method: str, own: Mapping[str, Any], seed: int, features: TextFeatures
) -> dict[str, Any]:
    return {
        "method": method,
        "options": {name: value for name, value in own.items() if name != "category_field"},
        "seed": seed,
        "text_features": {
            "file": features.path.name,
            "width": features.dim,
            "content_hash": features.content_hash,
        },
        "version": __version__,
        "libraries": {name: importlib.metadata.version(name) for name in ("scikit-learn", "torch")},
    }
