"""Every text vector computed before, kept by its text, and encoding that begins with those.

One SQLite file an encoder identity (model, revision and all options that decide a vector), one
row a text. A batch is committed whole, so that a killed run leaves whole batches behind. The
rollback journal is used rather than WAL: it also works on the network file systems where home
folders lie.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from recbole_hstu.encoders.base import Encoder
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.files.cache_folder import cache_folder
from recbole_hstu.support.files.file_lock import one_at_a_time

_TABLES = """
CREATE TABLE IF NOT EXISTS identity (json TEXT NOT NULL, dim INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB NOT NULL);
"""
_WAIT_S = 60.0  # for another process to end its transaction, which takes milliseconds
_TEXTS_A_QUERY = 500

logger = logging.getLogger(__name__)


def encode_texts(encoder: Encoder, texts: Sequence[str], *, progress: bool) -> np.ndarray:
    """Vectors (len(texts), dim) float32; what the cache holds is not encoded again.

    Raises:
        InputError: the encoder gave up; the batches before are kept.
    """
    if not texts:
        raise InputError("there is no item with a text to encode")
    if not encoder.per_text:
        return encoder.encode(texts)
    sent = encoder.prepare(texts)
    unique = list(dict.fromkeys(sent))
    cache = VectorCache(encoder.identity)
    with cache.locked():
        found = cache.find(unique)
        missing = [text for text in unique if text not in found]
        logger.info(
            "%s: %s different texts, %s of them kept from before, %s to encode",
            encoder.name,
            *(f"{n:,}" for n in (len(unique), len(found), len(missing))),
        )
        if missing:
            for positions, vectors in encoder.batches(missing, progress=progress):
                batch = [missing[i] for i in positions]
                _check_batch(encoder.name, batch, vectors)
                cache.add(batch, vectors)
            found.update(cache.find(missing))
    return np.stack([found[text] for text in sent])


class VectorCache:
    """The kept vectors of one encoder.

    Args:
        identity: all that decides a text's vector; equal identities share their vectors.

    Raises:
        InputError: the folder cannot be written, or the file is damaged.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = json.dumps(identity, sort_keys=True)
        digest = hashlib.sha256(self._identity.encode()).hexdigest()[:16]
        self.path = cache_folder() / "vectors" / f"{digest}.sqlite"
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
    def locked(self) -> Iterator[None]:
        """Hold this encoder's cache against other processes, waiting until it is free.

        Whoever waited finds in the cache what the other one encoded.
        """
        waiting = "another process encodes with this encoder; waiting for it to end"
        with ExitStack() as held:
            path = self.path.with_suffix(".lock")
            try:
                held.enter_context(one_at_a_time(path, waiting))
            except OSError as error:
                raise InputError(f"{path}: cannot be locked ({in_a_line(error)})") from error
            yield

    def find(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The kept vectors, (dim,) float32, of those of the texts that have one."""
        keys = {_key(text): text for text in texts}
        found: dict[str, np.ndarray] = {}
        with self._open() as database:
            dim = self._dim(database)
            asked = list(keys)
            for start in range(0, len(asked), _TEXTS_A_QUERY):
                part = asked[start : start + _TEXTS_A_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT text, vector FROM vectors WHERE text IN ({marks})"
                for key, blob in database.execute(query, part):
                    vector = np.frombuffer(blob, dtype="<f4")
                    if vector.shape != (dim,) or not np.isfinite(vector).all():
                        raise self._damaged("a vector is not whole")
                    found[keys[key]] = vector
        return found

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> None:
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


def _check_batch(name: str, texts: Sequence[str], vectors: np.ndarray) -> None:
    """A vector that is not one never gets into the cache."""
    if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] == 0:
        raise InputError(f"{name}: {len(texts)} texts gave vectors of shape {vectors.shape}")
    bad = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    if bad.any():
        first = texts[int(np.flatnonzero(bad)[0])]
        raise InputError(
            f"{name}: {int(bad.sum())} of {len(texts)} vectors of a batch are not finite or all "
            f"zero, the first of them for {first[:60]!r}; nothing of this batch is kept"
        )
