"""Every vector ever paid for, kept by the text it belongs to.

One SQLite file an encoder identity (model, revision and all settings that decide a vector), one
row a text. A batch is committed whole, so that a killed run leaves whole batches behind. The
rollback journal is used rather than WAL: it also works on the network file systems where home
folders lie.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hstu.support.errors import InputError

_TABLES = """
CREATE TABLE IF NOT EXISTS identity (json TEXT NOT NULL, dim INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB NOT NULL);
"""
_WAIT_S = 60.0  # for another process to end its transaction, which takes milliseconds
_ASK = 500  # texts a query

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """RECBOLE_HSTU_CACHE, else recbole_hstu in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("RECBOLE_HSTU_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recbole_hstu"


class VectorStore:
    """The kept vectors of one encoder.

    Args:
        identity: all that decides a text's vector; equal identities share their vectors.
        folder: where the files lie, `cache_folder()` by default.

    Raises:
        InputError: the folder cannot be written, or the file is damaged.
    """

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        self._identity = json.dumps(identity, sort_keys=True)
        digest = hashlib.sha256(self._identity.encode()).hexdigest()[:16]
        folder = cache_folder() if folder is None else folder
        self.path = folder / "vectors" / f"{digest}.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path.parent}: cannot be made ({error.strerror}); "
                "set RECBOLE_HSTU_CACHE to a folder that can be written"
            ) from error
        with self._open() as database:
            database.executescript(_TABLES)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold this encoder's store against other processes, waiting until it is free.

        Whoever waited finds in the store what the other one paid for. The lock is SQLite's own: it
        ends with the process that holds it, however that ends.
        """
        path = self.path.with_suffix(".lock")
        lock = sqlite3.connect(path, timeout=0, isolation_level=None)
        told = False
        try:
            while True:
                try:
                    lock.execute("BEGIN EXCLUSIVE")
                    break
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):
                        raise InputError(f"{path}: {error}") from error
                if not told:
                    logger.info("another process encodes with this encoder; waiting for it to end")
                    told = True
                time.sleep(0.2)
            yield
        finally:
            lock.close()

    def find(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The kept vectors, (dim,) float32, of those of the texts that have one."""
        keys = {_key(text): text for text in texts}
        found: dict[str, np.ndarray] = {}
        with self._open() as database:
            dim = self._dim(database)
            asked = list(keys)
            for start in range(0, len(asked), _ASK):
                part = asked[start : start + _ASK]
                marks = ",".join("?" * len(part))
                query = f"SELECT text, vector FROM vectors WHERE text IN ({marks})"
                for key, blob in database.execute(query, part):
                    vector = np.frombuffer(blob, dtype="<f4")
                    if vector.shape != (dim,) or not np.isfinite(vector).all():
                        raise self._damaged("a vector is not whole")
                    found[keys[key]] = vector
        return found

    def keep(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Add the vectors of one batch, all of them or none; a text that is there stays.

        Raises:
            InputError: another width than the vectors kept before.
        """
        rows = [(_key(t), v.tobytes()) for t, v in zip(texts, vectors.astype("<f4"), strict=True)]
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            dim = self._dim(database)
            if dim is None:
                database.execute(
                    "INSERT INTO identity VALUES (?, ?)", (self._identity, vectors.shape[1])
                )
            elif dim != vectors.shape[1]:
                raise InputError(
                    f"the encoder's vectors had {dim} numbers and now have {vectors.shape[1]}; "
                    f"if that is meant, delete {self.path}"
                )
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            database.execute("COMMIT")

    @staticmethod
    def _dim(database: sqlite3.Connection) -> int | None:
        row = database.execute("SELECT dim FROM identity").fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            try:
                database.execute("PRAGMA synchronous=FULL")
                yield database
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{self.path}: {error}; free space, or set RECBOLE_HSTU_CACHE to another folder"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> InputError:
        return InputError(f"{self.path}: the kept vectors are damaged ({why}); delete this file")


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
