"""The side-feature file: one frozen text vector an item, found by the item's token.

`{dataset}.{encoder}.safetensors` holds

    vectors        (items, dim)  float32 or float16
    tokens, token_ends           the item tokens, see `data/files/item_rows.py`
    text_hashes    (items, 16)   uint8, the first half of each text's SHA-256
    encoder.NAME   of encoders that were fitted on the texts: what further texts need

and, as one JSON text in its metadata, where the vectors come from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from recbole_hstu.data.files.item_rows import ItemFile, rows_of, sha256, token_tensors
from recbole_hstu.support.errors import InputError, first_ten

TEXT_HASH_BYTES = 16
_OF_ENCODER = "encoder."
_FILE = ItemFile(
    "side-feature file",
    "recbole-hstu encode (or of write_text_features, for vectors of your own)",
    frozenset({"vectors", "text_hashes"}),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextHeader:
    """All of a side-feature file but its vectors.

    Attributes:
        path: the file.
        tokens: item tokens in row order.
        text_hashes: (items, 16) uint8, see `text_hash`.
        provenance: encoder, revision, options, item_text, max_length, normalized, texts_hash,
            content_hash, format and version.
    """

    path: Path
    tokens: list[str]
    text_hashes: np.ndarray
    provenance: Mapping[str, Any]

    @property
    def content_hash(self) -> str:
        """What a checkpoint keeps in place of the vectors: a hash of the tokens and vectors."""
        return str(self.provenance["content_hash"])


@dataclass(frozen=True)
class TextFeatures(TextHeader):
    """A whole side-feature file; `vectors` is (items, dim), float32 or float16 as on disk."""

    vectors: np.ndarray

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.vectors.shape[1])


def text_hash(text: str) -> bytes:
    """The 16 bytes by which a file knows the text that a row was made from."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:TEXT_HASH_BYTES]


def write_text_features(
    path: str | Path,
    texts: Mapping[str, str],
    vectors: np.ndarray,
    provenance: Mapping[str, Any],
    *,
    encoder_state: Mapping[str, np.ndarray] | None = None,
    storage_dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a side-feature file, whole or not at all; equal input gives equal bytes.

    Args:
        path: of the file; a file of that name is replaced.
        texts: item token to the text it was encoded from, in the order of the rows.
        vectors: (items, dim) numbers.
        provenance: what else the metadata shall say; plain JSON values.
        encoder_state: see `Encoder.state`.
        storage_dtype: of the vectors on disk.

    Raises:
        InputError: wrong shape, a number that is not finite (as stored), an unwritable folder.
    """
    path, tokens = Path(path), list(texts)
    if vectors.ndim != 2 or vectors.shape[0] != len(tokens) or 0 in vectors.shape:
        raise InputError(f"{path}: {len(tokens)} items, but vectors of shape {vectors.shape}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=storage_dtype)
    _refuse_infinite(path, tokens, stored)
    names = token_tensors(tokens).values()
    tensors = {"vectors": stored, "text_hashes": _text_hashes(texts)}
    hashes = {
        "texts_hash": sha256(*names, tensors["text_hashes"]),
        "content_hash": sha256(*names, stored),
    }
    tensors |= {f"{_OF_ENCODER}{name}": array for name, array in (encoder_state or {}).items()}
    _FILE.write(path, tokens, tensors, {**provenance, **hashes})


def _text_hashes(texts: Mapping[str, str]) -> np.ndarray:
    hashes = b"".join(map(text_hash, texts.values()))
    return np.frombuffer(hashes, dtype=np.uint8).reshape(-1, TEXT_HASH_BYTES)


def read_text_header(path: str | Path) -> TextHeader:
    """Tokens, text hashes and provenance, without the vectors.

    Raises:
        InputError: no such file, not a side-feature file, a token twice.
    """
    return TextHeader(**_read(Path(path), ("text_hashes",)))


def read_text_features(path: str | Path) -> TextFeatures:
    """Read and check a side-feature file.

    Raises:
        InputError: no such file, not a side-feature file, a token twice, a vector not finite.
    """
    fields = _read(Path(path), ("text_hashes", "vectors"))
    features = TextFeatures(**fields)
    vectors = features.vectors
    if vectors.ndim != 2 or vectors.shape[0] != len(features.tokens) or 0 in vectors.shape:
        raise _FILE.broken(features.path, f"{len(features.tokens)} tokens, vectors {vectors.shape}")
    if vectors.dtype not in (np.float32, np.float16):
        raise _FILE.broken(features.path, f"vectors are {vectors.dtype}")
    _refuse_infinite(features.path, features.tokens, vectors)
    return features


def read_encoder_state(path: str | Path) -> dict[str, np.ndarray]:
    """What the file keeps of an encoder that was fitted on its texts; empty if there is none.

    Raises:
        InputError: see `read_text_header`.
    """
    path = Path(path)
    with _FILE.opened(path) as file:
        names = [name for name in file.keys() if name.startswith(_OF_ENCODER)]  # noqa: SIM118
        return {name.removeprefix(_OF_ENCODER): file.get_tensor(name).numpy() for name in names}


def item_rows(
    features: TextFeatures, tokens: Sequence[str] | np.ndarray, *, zeros: bool = False
) -> np.ndarray:
    """Where the vectors of RecBole's items stand in the file.

    Args:
        features: the file.
        tokens: `dataset.field2id_token[iid_field]`, whose entry 0 is "[PAD]".
        zeros: whether items may have no row; how many, and that they get zeros, is logged.

    Returns:
        (n_items,) int64; -1 for the padding and for an item without a row.

    Raises:
        InputError: an item without a row and not `zeros`, a token twice, entry 0 is no padding.
    """
    rows = rows_of(features.tokens, tokens)
    absent = np.flatnonzero(rows[1:] < 0) + 1
    if len(absent):
        what = f"{len(absent):,} of {len(rows) - 1:,} items have no text vector"
        named = first_ten([tokens[row] for row in absent])
        if not zeros:
            raise InputError(
                f"{features.path}: {what}: {named}; encode the item text "
                "again, or accept zero rows with text_missing: zero"
            )
        logger.warning("%s: %s and get zeros: %s", features.path, what, named)
    return rows


def all_alike(directions: np.ndarray) -> bool:
    """Whether vectors (n, dim) of length 1 are all the same, but for rounding."""
    return bool(np.ptp(directions, axis=0).max() <= 1e-5)


def _read(path: Path, names: Sequence[str]) -> dict[str, Any]:
    tokens, tensors, provenance = _FILE.read(path, names)
    if len(tensors["text_hashes"]) != len(tokens):
        raise _FILE.broken(path, f"{len(tokens)} tokens, {len(tensors['text_hashes'])} text hashes")
    return {"path": path, "tokens": tokens, "provenance": provenance, **tensors}


def _refuse_infinite(path: Path, tokens: list[str], vectors: np.ndarray) -> None:
    # The least and the greatest number tell: NaN would be both. One pass, nothing allocated.
    if all(bool(torch.isfinite(end)) for end in torch.aminmax(torch.from_numpy(vectors))):
        return
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    raise InputError(
        f"{path}: {len(bad):,} {vectors.dtype} vectors are not finite: "
        f"{first_ten([tokens[i] for i in bad])}"
    )
