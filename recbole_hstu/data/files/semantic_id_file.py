"""The semantic-id file: every item as a short tuple of codes, found by the item's token.

`{dataset}.{method}.ids.safetensors` holds

    codes              (items, levels)  int32; the last level tells apart items that share the rest
    level_sizes        (levels,)        int64; the codes of a level lie in 0 .. size - 1
    tokens, token_ends                  the item tokens, see `data/files/item_rows.py`
    quantiser.NAME     what gives further items their codes

and, as one JSON text in its metadata, the method, its options and seed, the side-feature file it
was made from, and versions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_hstu.data.files.item_rows import (
    ItemFile,
    NotUsable,
    rows_of,
    sha256,
    token_tensors,
)
from recbole_hstu.data.files.side_feature_file import read_text_header
from recbole_hstu.support.errors import InputError, first_ten
from recbole_hstu.support.near_names import near_names

METHODS = ("rkmeans", "rqvae")
_OF_QUANTISER = "quantiser."
_FILE = ItemFile("semantic-id file", "recbole-hstu ids", frozenset({"codes", "level_sizes"}))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SemanticIds:
    """The semantic ids of a data set.

    Attributes:
        codes: (n_items, levels) int64 in the order of RecBole's item ids; row 0, the padding, is
            -1 throughout. No two items have the same row.
        level_sizes: how many codes a level has.
        text_features: name and hash of the side-feature file that they were made from, where a
            file says so.
    """

    codes: torch.Tensor
    level_sizes: tuple[int, ...]
    text_features: Mapping[str, Any] | None = None


def semantic_ids_path(config: Any) -> Path:
    """The file that the option `semantic_ids` names: by its method, beside the atomic files, or
    by its path."""
    named = str(config["semantic_ids"])
    if named not in METHODS:
        return Path(named)
    folder = Path(config["output_path"]) / config["dataset"]
    return folder / f"{config['dataset']}.{named}.ids.safetensors"


def semantic_ids_of(config: Any, dataset: Any) -> SemanticIds:
    """The ids that a model is built with: those of `semantic_ids`, or, where it is built from a
    checkpoint, those that the checkpoint holds (`dataset.semantic_ids`).

    Raises:
        InputError: neither a method nor a file, or see `read_semantic_ids`.
    """
    kept = getattr(dataset, "semantic_ids", None)
    if kept is not None:
        return kept
    path, named = semantic_ids_path(config), str(config["semantic_ids"])
    if not path.is_file() and named in METHODS:
        raise InputError(f"{path}: no such file; make it with {_command(config)}")
    if not path.is_file():
        near = near_names(named, METHODS)
        remedy = f"did you mean {near[0]}?" if near else "name a file of recbole-hstu ids"
        raise InputError(
            f"--semantic_ids={named}: is no file, and no method ({', '.join(METHODS)}); {remedy}"
        )
    try:
        ids = read_semantic_ids(path, dataset)
    except NotUsable as error:
        if named not in METHODS:
            raise
        raise InputError(f"{error.what}; make it anew with {_command(config)}") from error
    _warn_of_other_vectors(config, path, ids.text_features or {})
    return ids


def _command(config: Any) -> str:
    """What makes the file that the option `semantic_ids` names."""
    named, folder = config["semantic_ids"], Path(config["output_path"])
    where = "" if folder == Path("dataset") else f" --data_path={folder}"
    what = f"--method={named}" if named in METHODS else f"--out={named}"
    return f"recbole-hstu ids --dataset={config['dataset']}{where} {what}"


def _warn_of_other_vectors(config: Any, path: Path, made_from: Mapping[str, Any]) -> None:
    """Texts may have changed since: their vectors are made anew by themselves, ids are not."""
    name = str(made_from.get("file"))
    beside = Path(config["output_path"]) / config["dataset"] / name
    at_hand = (Path(config["text_features_file"] or beside), beside)
    file = next((file for file in at_hand if file.name == name and file.is_file()), None)
    if file is None:
        return
    with suppress(InputError):  # whoever needs a file that is damaged says so
        if read_text_header(file).content_hash != made_from["content_hash"]:
            logger.warning(
                f"{path}: was made when {file} held other items or vectors; where texts have "
                f"changed, make it anew with {_command(config)}, where only items were added, give "
                f"them codes with --quantiser={path}"
            )


def write_semantic_ids(
    path: str | Path,
    tokens: Sequence[str],
    codes: np.ndarray,
    level_sizes: Sequence[int],
    provenance: Mapping[str, Any],
    *,
    quantiser: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a semantic-id file, whole or not at all; equal input gives equal bytes.

    Args:
        path: of the file; a file of that name is replaced.
        tokens: of the items, in the order of the rows.
        codes: (items, levels) whole numbers.
        level_sizes: how many codes a level has.
        provenance: what the metadata shall say; plain JSON values.
        quantiser: what gives further items their codes.

    Raises:
        InputError: wrong shapes, a code out of range, two items with one id, an unwritable folder.
    """
    path = Path(path)
    stored = np.ascontiguousarray(codes, dtype=np.int32)
    sizes = np.asarray(level_sizes, dtype=np.int64)
    _check(path, tokens, stored, sizes)
    tensors: dict[str, np.ndarray] = {"codes": stored, "level_sizes": sizes}
    tensors |= {f"{_OF_QUANTISER}{name}": array for name, array in (quantiser or {}).items()}
    content_hash = sha256(*token_tensors(tokens).values(), stored, sizes)
    _FILE.write(path, tokens, tensors, {**provenance, "content_hash": content_hash})


def read_semantic_ids(path: str | Path, dataset: Any) -> SemanticIds:
    """The semantic ids of a data set's items, in the order of RecBole's item ids.

    Args:
        path: of the file.
        dataset: RecBole's data set, or what stands in for it.

    Raises:
        InputError: no such file, not a semantic-id file, a file of another data set, a code out of
            range, two items with one id.
    """
    path = Path(path)
    tokens, codes, sizes, made = _read(path)
    items = dataset.field2id_token[dataset.iid_field]
    rows = rows_of(tokens, items)
    absent = np.flatnonzero(rows[1:] < 0) + 1
    if len(absent):
        raise InputError(
            f"{path}: {len(absent):,} of {len(rows) - 1:,} items have no semantic id: "
            f"{first_ten([items[item] for item in absent])}; the file is of another data set or an "
            "older one, make it again with recbole-hstu ids"
        )
    aligned = np.where(rows[:, None] < 0, -1, codes[rows])
    return SemanticIds(
        torch.from_numpy(aligned).long(), tuple(sizes.tolist()), made.get("text_features")
    )


def codes_by_token(path: str | Path) -> dict[str, list[int]]:
    """The codes of every item of a file.

    Raises:
        InputError: see `read_semantic_ids`.
    """
    tokens, codes, *_ = _read(Path(path))
    return dict(zip(tokens, codes.tolist(), strict=True))


def _read(path: Path) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, Any]]:
    """The tokens, codes and level sizes of a file, checked, and its provenance."""
    tokens, tensors, made = _FILE.read(path, ("codes", "level_sizes"))
    codes, sizes = tensors["codes"], tensors["level_sizes"]
    _check(path, tokens, codes, sizes)
    return tokens, codes, sizes, made


def read_quantiser(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What gives further items their codes, and the provenance.

    Raises:
        InputError: no such file, not a semantic-id file.
    """
    path = Path(path)
    with _FILE.opened(path) as file:
        names = [name for name in file.keys() if name.startswith(_OF_QUANTISER)]  # noqa: SIM118
    _, tensors, provenance = _FILE.read(path, names)
    return {name.removeprefix(_OF_QUANTISER): tensors[name] for name in names}, provenance


def _check(path: Path, tokens: Sequence[str], codes: np.ndarray, sizes: np.ndarray) -> None:
    """Shapes, ranges, and that every item has an id of its own."""
    if codes.shape != (len(tokens), len(sizes)) or 0 in codes.shape:
        shapes = f"{len(tokens)} tokens, codes {codes.shape}, {len(sizes)} levels"
        raise _FILE.broken(path, shapes)
    outside = ((codes < 0) | (codes >= sizes)).any(1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"{path}: codes out of range for {int(outside.sum()):,} items, such as {tokens[row]}: "
            f"{codes[row].tolist()} where levels have {sizes.tolist()} codes; make the file again "
            "with recbole-hstu ids"
        )
    _, first, shared = np.unique(codes, axis=0, return_index=True, return_counts=True)
    if len(first) < len(codes):
        at = int(first[np.flatnonzero(shared > 1)[0]])
        same = np.flatnonzero((codes == codes[at]).all(1))
        raise InputError(
            f"{path}: {len(codes) - len(first):,} items have the id of another one, such as "
            f"{first_ten([tokens[row] for row in same])} with {codes[at].tolist()}; make the file "
            "again with recbole-hstu ids"
        )
