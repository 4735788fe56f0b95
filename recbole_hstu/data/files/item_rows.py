"""Safetensors files with a row an item: what the side-feature file and the semantic-id file share.

The item tokens of the rows stand in two tensors,

    tokens       (bytes,)   uint8, the item tokens in UTF-8, one after the other
    token_ends   (items,)   int64, where each token ends in `tokens`

and where the rows come from, as one JSON text, in the metadata. A row is only ever found by its
token: neither the order of the file nor RecBole's ids mean anything here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from recbole_hstu.support.errors import InputError, first_ten
from recbole_hstu.support.files.whole_file import write_whole

FORMAT = 1
PADDING = "[PAD]"
_METADATA_KEY = "recbole_hstu"
_TOKENS = ("tokens", "token_ends")


class NotUsable(InputError):
    """A file that is not of the kind that it should be; `what` is the message without a remedy."""

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}; {remedy}")
        self.what = what


@dataclass(frozen=True)
class ItemFile:
    """One kind of such files.

    Attributes:
        what: as messages call it.
        made_by: the command that makes it, and what else does.
        tensors: that it must have beside the tokens; it may have more.
    """

    what: str
    made_by: str
    tensors: frozenset[str]

    def write(
        self,
        path: Path,
        tokens: Collection[str],
        tensors: Mapping[str, np.ndarray],
        provenance: Mapping[str, Any],
    ) -> None:
        """Write a file, whole or not at all; equal input gives equal bytes.

        Args:
            path: of the file; a file of that name is replaced.
            tokens: of the items, in the order of the rows.
            tensors: by name.
            provenance: plain JSON values.

        Raises:
            InputError: it cannot be written.
        """
        header = json.dumps({**provenance, "format": FORMAT}, sort_keys=True)
        try:
            # One metadata key: safetensors does not keep several in a fixed order. As bytes: its
            # `save_file` puts a file of its own in the place of ours, which no one has locked.
            content = save({**tensors, **token_tensors(tokens)}, metadata={_METADATA_KEY: header})
            write_whole(path, content)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free space or name another folder"
            ) from error

    def read(
        self, path: Path, names: Sequence[str]
    ) -> tuple[list[str], dict[str, np.ndarray], dict[str, Any]]:
        """The tokens in row order, the tensors `names`, and the provenance.

        Raises:
            InputError: no such file, a file of another kind, a token twice.
        """
        with self.opened(path) as file:
            metadata = file.metadata() or {}
            if _METADATA_KEY not in metadata or not {*_TOKENS, *self.tensors} <= set(file.keys()):
                raise self.broken(path, "it is a safetensors file of another kind")
            tensors = {name: file.get_tensor(name).numpy() for name in (*_TOKENS, *names)}
            provenance = json.loads(metadata[_METADATA_KEY])
        if provenance.get("format") != FORMAT:
            found = provenance.get("format")
            raise self.broken(path, f"format {found}, this version reads {FORMAT}")
        tokens = self._decode(path, *(tensors.pop(name) for name in _TOKENS))
        index = pd.Index(tokens, dtype=object)
        if not index.is_unique:
            twice = index[index.duplicated()].unique()
            raise InputError(f"{path}: tokens twice: {first_ten(twice)}")
        return tokens, tensors, provenance

    @contextmanager
    def opened(self, path: Path) -> Iterator[Any]:
        """The file as torch tensors, which are mapped rather than read and copied."""
        try:
            with safe_open(str(path), framework="pt") as file:
                yield file
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); name a file of {self.made_by}"
            ) from error
        except (SafetensorError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise self.broken(path, str(error)) from error

    def broken(self, path: Path, why: str) -> NotUsable:
        what = f"{path}: not a usable {self.what} ({why})"
        return NotUsable(what, f"name a file of {self.made_by}")

    def _decode(self, path: Path, blob: np.ndarray, ends: np.ndarray) -> list[str]:
        whole, stops = blob.tobytes(), ends.tolist()
        if not stops or stops[-1] != len(whole) or (np.diff(ends, prepend=0) < 0).any():
            raise self.broken(path, "the token table does not add up")
        try:
            return [whole[a:b].decode("utf-8") for a, b in zip([0, *stops], stops, strict=False)]
        except UnicodeDecodeError as error:
            raise self.broken(path, f"a token is not UTF-8: {error}") from error


def token_tensors(tokens: Collection[str]) -> dict[str, np.ndarray]:
    """`tokens` and `token_ends` of a file."""
    encoded = [token.encode("utf-8") for token in tokens]
    return {
        "tokens": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "token_ends": np.cumsum([len(token) for token in encoded], dtype=np.int64),
    }


def rows_of(tokens: Sequence[str], wanted: Sequence[str] | np.ndarray) -> np.ndarray:
    """Where the rows of RecBole's items stand in a file.

    Args:
        tokens: of the file.
        wanted: `dataset.field2id_token[iid_field]`, whose entry 0 is "[PAD]".

    Returns:
        (n_items,) row numbers; -1 for the padding and for an item without a row.

    Raises:
        InputError: an item twice, entry 0 is not the padding.
    """
    items = pd.Index(np.asarray(wanted, dtype=object))
    if len(items) == 0 or items[0] != PADDING:
        raise InputError(f"item tokens must begin with {PADDING!r}, RecBole's padding")
    if not items.is_unique:
        raise InputError(f"item tokens twice: {first_ten(items[items.duplicated()].unique())}")
    rows = pd.Index(tokens, dtype=object).get_indexer(items)
    rows[0] = -1
    return rows


def sha256(*arrays: np.ndarray) -> str:
    """A hash of the values, kinds and shapes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
