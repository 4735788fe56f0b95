"""The side-feature file: one frozen text vector an item, found by the item's token.

`{dataset}.{encoder}.safetensors` holds

    vectors        (items, dim)  float32 or float16
    tokens         (bytes,)      uint8, the item tokens in UTF-8, one after the other
    token_ends     (items,)      int64, where each token ends in `tokens`
    text_hashes    (items, 16)   uint8, the first half of each text's SHA-256
    encoder.NAME   of encoders that were fitted on the texts: what further texts need

and, as one JSON text in its metadata, where the vectors come from. A row is only ever found by its
token: neither the order of the file nor RecBole's ids mean anything here.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.whole_file import write_whole

FORMAT = 1
TEXT_HASH_BYTES = 16
PADDING = "[PAD]"
_METADATA_KEY = "recbole_hstu"
_TENSORS = {"vectors", "tokens", "token_ends", "text_hashes"}
_OF_ENCODER = "encoder."

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
    tensors = {"vectors": stored, **_token_tensors(texts)}
    names = [tensors["tokens"], tensors["token_ends"]]
    hashes = {
        "texts_hash": _sha256(*names, tensors["text_hashes"]),
        "content_hash": _sha256(*names, stored),
    }
    header = json.dumps({**provenance, "format": FORMAT, **hashes}, sort_keys=True)
    tensors |= {f"{_OF_ENCODER}{name}": array for name, array in (encoder_state or {}).items()}
    try:
        # One metadata key: safetensors does not keep several in a fixed order.
        write_whole(path, save(tensors, metadata={_METADATA_KEY: header}))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free space or name another folder"
        ) from error


def _token_tensors(texts: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tokens of the rows, and the hashes of the texts that they were made from."""
    encoded = [token.encode("utf-8") for token in texts]
    hashes = b"".join(map(text_hash, texts.values()))
    return {
        "tokens": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "token_ends": np.cumsum([len(token) for token in encoded], dtype=np.int64),
        "text_hashes": np.frombuffer(hashes, dtype=np.uint8).reshape(-1, TEXT_HASH_BYTES),
    }


def read_text_header(path: str | Path) -> TextHeader:
    """Tokens, text hashes and provenance, without the vectors.

    Raises:
        InputError: no such file, not a side-feature file, a token twice.
    """
    return TextHeader(**_read(Path(path), ("tokens", "token_ends", "text_hashes")))


def read_text_features(path: str | Path) -> TextFeatures:
    """Read and check a side-feature file.

    Raises:
        InputError: no such file, not a side-feature file, a token twice, a vector not finite.
    """
    fields = _read(Path(path), tuple(sorted(_TENSORS)))
    features = TextFeatures(**fields)
    vectors = features.vectors
    if vectors.ndim != 2 or vectors.shape[0] != len(features.tokens) or 0 in vectors.shape:
        raise _broken(features.path, f"{len(features.tokens)} tokens, vectors {vectors.shape}")
    if vectors.dtype not in (np.float32, np.float16):
        raise _broken(features.path, f"vectors are {vectors.dtype}")
    _refuse_infinite(features.path, features.tokens, vectors)
    return features


def read_encoder_state(path: str | Path) -> dict[str, np.ndarray]:
    """What the file keeps of an encoder that was fitted on its texts; empty if there is none.

    Raises:
        InputError: see `read_text_header`.
    """
    path = Path(path)
    with _opened(path) as file:
        names = [name for name in file.keys() if name.startswith(_OF_ENCODER)]  # noqa: SIM118
        return {name.removeprefix(_OF_ENCODER): file.get_tensor(name).numpy() for name in names}


def align(
    features: TextFeatures,
    tokens: Sequence[str] | np.ndarray,
    *,
    missing: Literal["error", "zero"] = "error",
) -> np.ndarray:
    """The vectors in the order of RecBole's item ids.

    Args:
        features: the file.
        tokens: `dataset.field2id_token[iid_field]`, whose entry 0 is "[PAD]".
        missing: what to do with an item that has no row: raise, or give zeros and log how many.

    Returns:
        (n_items, dim) float32; row 0, the padding, is zero.

    Raises:
        InputError: an item without a row, a token twice, entry 0 is not the padding.
    """
    wanted = pd.Index(np.asarray(tokens, dtype=object))
    if len(wanted) == 0 or wanted[0] != PADDING:
        raise InputError(f"item tokens must begin with {PADDING!r}, RecBole's padding")
    if not wanted.is_unique:
        raise InputError(f"item tokens twice: {first_ten(wanted[wanted.duplicated()].unique())}")
    rows = pd.Index(features.tokens, dtype=object).get_indexer(wanted)
    rows[0] = -1
    absent = np.flatnonzero(rows[1:] < 0) + 1
    if len(absent):
        what = f"{len(absent):,} of {len(wanted) - 1:,} items have no text vector"
        if missing != "zero":
            raise InputError(
                f"{features.path}: {what}: {first_ten(wanted[absent])}; encode the item text "
                "again, or accept zero rows with text_missing: zero"
            )
        logger.warning("%s: %s and get zeros: %s", features.path, what, first_ten(wanted[absent]))
    gathered = np.take(features.vectors, rows, axis=0, mode="clip")
    table = torch.from_numpy(gathered).float().numpy()  # torch widens float16 ten times faster
    table[rows < 0] = 0.0
    return table


def first_ten(tokens: Sequence[str] | pd.Index) -> str:
    """Up to ten tokens for a message."""
    shown = ", ".join(map(str, tokens[:10]))
    return shown if len(tokens) <= 10 else f"{shown}, ... ({len(tokens) - 10:,} more)"


def _read(path: Path, names: Sequence[str]) -> dict[str, Any]:
    with _opened(path) as file:
        metadata = file.metadata() or {}
        ours = {name for name in file.keys() if not name.startswith(_OF_ENCODER)}  # noqa: SIM118
        if _METADATA_KEY not in metadata or ours != _TENSORS:
            raise _broken(path, "it is a safetensors file of another kind")
        tensors = {name: file.get_tensor(name).numpy() for name in names}
        provenance = json.loads(metadata[_METADATA_KEY])
    if provenance.get("format") != FORMAT:
        raise _broken(path, f"format {provenance.get('format')}, this version reads {FORMAT}")
    tokens = _decode(path, tensors.pop("tokens"), tensors.pop("token_ends"))
    if len(tensors["text_hashes"]) != len(tokens):
        raise _broken(path, f"{len(tokens)} tokens, {len(tensors['text_hashes'])} text hashes")
    index = pd.Index(tokens, dtype=object)
    if not index.is_unique:
        raise InputError(f"{path}: tokens twice: {first_ten(index[index.duplicated()].unique())}")
    return {"path": path, "tokens": tokens, "provenance": provenance, **tensors}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file as torch tensors, which are mapped rather than read and copied."""
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); make it with recbole-hstu encode"
        ) from error
    except (SafetensorError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise _broken(path, str(error)) from error


def _decode(path: Path, blob: np.ndarray, ends: np.ndarray) -> list[str]:
    whole, stops = blob.tobytes(), ends.tolist()
    if not stops or stops[-1] != len(whole) or (np.diff(ends, prepend=0) < 0).any():
        raise _broken(path, "the token table does not add up")
    try:
        return [whole[a:b].decode("utf-8") for a, b in zip([0, *stops], stops, strict=False)]
    except UnicodeDecodeError as error:
        raise _broken(path, f"a token is not UTF-8: {error}") from error


def _broken(path: Path, why: str) -> InputError:
    return InputError(f"{path}: not a usable side-feature file ({why}); delete it and encode again")


def _refuse_infinite(path: Path, tokens: list[str], vectors: np.ndarray) -> None:
    # The least and the greatest number tell: NaN would be both. One pass, nothing allocated.
    if all(bool(torch.isfinite(end)) for end in torch.aminmax(torch.from_numpy(vectors))):
        return
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    raise InputError(
        f"{path}: {len(bad):,} {vectors.dtype} vectors are not finite: "
        f"{first_ten([tokens[i] for i in bad[:11]])}"
    )


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
