"""The database that the trials of a search lie in: SQLite in its folder, or one of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from recbole_hstu.errors import InputError

STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError)
_SQLITE_SECONDS = 60
"""How long a process waits for others that write to the same SQLite file."""


def open_storage(url: str) -> RDBStorage:
    """The storage under a URL of SQLAlchemy; tables that are missing are made.

    Raises:
        InputError: it is no such URL, or the driver of its database is not installed.
    """
    try:
        if make_url(url).get_backend_name() == "sqlite":
            options: dict = {"connect_args": {"timeout": _SQLITE_SECONDS}}
        else:
            options = {"pool_pre_ping": True}  # a server may have been started anew meanwhile
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        reason = error.__cause__ or error
        raise InputError(f"--storage: {reason}; install the driver of that database") from error
    except ArgumentError as error:
        raise InputError(
            f"--storage: {_first_line(error)}; expected a URL of SQLAlchemy, such as "
            "postgresql://USER@HOST/DATABASE"
        ) from error


@contextmanager
def storage_failures(name: str) -> Iterator[None]:
    """Tell in one line that the storage `name` has failed; its trials are not lost.

    Raises:
        InputError: it has.
    """
    try:
        yield
    except STORAGE_ERRORS as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise InputError(
            f"{name}: {_first_line(cause or error)}; mend it and start the same command again to "
            "go on"
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].strip()
