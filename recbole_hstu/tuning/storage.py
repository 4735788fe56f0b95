"""The database that the trials of a search lie in: SQLite in its folder, or one of a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from recbole_hstu.support.errors import InputError, in_a_line

STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError)
_SQLITE_SECONDS = 60
"""How long a process waits for others that write to the same SQLite file."""


def read_url(text: str) -> URL:
    """`--storage`.

    Raises:
        InputError: it is no URL of SQLAlchemy.
    """
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, ValueError) as error:
        raise InputError(
            f"--storage: {in_a_line(error)}; expected a URL of SQLAlchemy, such as "
            "postgresql+psycopg://USER@HOST/DATABASE"
        ) from error
    return url


def open_storage(url: URL, name: str) -> RDBStorage:
    """The storage under a URL; tables that are missing are made.

    Raises:
        InputError: the driver of the database is not installed, or `name` is the storage of
            another version of Optuna.
        STORAGE_ERRORS: the database cannot be used.
    """
    sqlite = url.get_backend_name() == "sqlite"
    # A server may have been started anew since a connection was last used.
    options = {"connect_args": {"timeout": _SQLITE_SECONDS}} if sqlite else {"pool_pre_ping": True}
    text = url.render_as_string(hide_password=False)
    text = text.replace("{", "{{").replace("}", "}}")  # Optuna takes it for a template
    try:
        with _driver_of(name):
            return RDBStorage(text, engine_kwargs=options)
    except RuntimeError as error:  # of its tables; Optuna says what to do
        raise InputError(f"{name}: {in_a_line(error)}") from error


def check_connection(url: URL, name: str) -> None:
    """Whether the database under a URL answers. SQLite makes an empty file where there is none.

    Raises:
        InputError: its driver is not installed.
        STORAGE_ERRORS: it cannot be used.
    """
    with _driver_of(name):
        engine = create_engine(url)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextmanager
def _driver_of(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        reason = in_a_line(error.__cause__ or error)
        raise InputError(f"{name}: {reason}; install the driver of that database") from error


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
        first, *_ = str(cause or error).splitlines() or [type(error).__name__]
        raise InputError(
            f"{name}: {first.strip()}; mend it and start the command again, which goes on where "
            "it was"
        ) from error
