"""One small file a run with every user's rank, so that a further metric needs no new training."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_hstu.support.errors import InputError, writing
from recbole_hstu.support.files.whole_file import whole_file

SUFFIX = ".ranks.npz"
VERSION = 1
_COLUMNS = ("ranks", "ties", "history_length", "target_count")
# What numpy and zipfile raise on cut, changed or foreign bytes.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class RankFile:
    """What a run gave every test user; all arrays are `(users,)`, in the same order.

    Attributes:
        users: the users' own tokens (unicode), each once.
        ranks: rank of the target from 1, int64; `ranks.MISSED` where it was no candidate.
        ties: other candidates with the target's score, int64.
        history_length: events before the target in the data, not cut to the model's window, int64.
        target_count: how often the target occurs in training, int64; 0 is a cold item.
        meta: plain values: model, data set, seed, protocol.
    """

    users: NDArray[np.str_]
    ranks: NDArray[np.int64]
    ties: NDArray[np.int64]
    history_length: NDArray[np.int64]
    target_count: NDArray[np.int64]
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str | None:
        if self.users.ndim != 1 or self.users.dtype.kind != "U":
            return f"users must be a (users,) array of text, not {self.users.dtype}"
        if not len(self.users):
            return "there must be a user"
        for name in _COLUMNS:
            column = getattr(self, name)
            if column.dtype != np.int64 or column.shape != self.users.shape:
                return f"{name} must be int64 {self.users.shape}, not {column.dtype} {column.shape}"
            least = 1 if name == "ranks" else 0
            if (column < least).any():
                return f"{name} must not be below {least}"
        if len(np.unique(self.users)) != len(self.users):
            return "a user occurs twice"
        return None


def write_rank_file(path: Path | str, ranks: RankFile) -> None:
    """Write a run's ranks, whole or not at all (a compressed npz that holds no objects).

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written.
        ValueError: the metadata does not fit JSON.
    """
    encoded = np.array([user.encode() for user in ranks.users.tolist()], dtype=np.bytes_)
    meta = json.dumps({"version": VERSION, "meta": ranks.meta}, allow_nan=False)
    columns = {name: getattr(ranks, name) for name in _COLUMNS}
    with writing(path), whole_file(path) as stream:
        np.savez_compressed(stream, users=encoded, header=np.array(meta), **columns)


def read_rank_file(path: Path | str) -> RankFile:
    """Read back what `write_rank_file` wrote.

    Raises:
        InputError: the file is missing, damaged, of another version or inconsistent.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            if header["version"] != VERSION:
                raise InputError(
                    f"{path}: written as version {header['version']}, this release reads "
                    f"{VERSION}: delete it, and the study's command makes it anew"
                )
            columns = {name: stored[name] for name in _COLUMNS}
            return RankFile(users=_decode(stored["users"]), meta=header["meta"], **columns)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file of ranks: the study's command makes it anew"
        ) from None
    except _DAMAGE as error:
        raise InputError(
            f"{path}: not a readable file of ranks ({error}): delete it, and the study's command "
            "makes it anew"
        ) from error


def _decode(encoded: NDArray[np.bytes_]) -> NDArray[np.str_]:
    return np.array([user.decode() for user in encoded.tolist()], dtype=np.str_)
