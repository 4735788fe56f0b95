"""`recbole-hstu serve`: checkpoints behind a port."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from recbole_hstu.service.app import make_app
from recbole_hstu.service.connection import Connection
from recbole_hstu.service.guard import Guard
from recbole_hstu.service.item_titles import ItemTitles, read_titles
from recbole_hstu.service.served_model import ServedModel
from recbole_hstu.serving.approximate_index import ApproximateIndex
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.commands.command_options import known_options, whole_number
from recbole_hstu.support.errors import InputError

TOKEN_VARIABLE = "RECBOLE_HSTU_TOKEN"
_DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8000,
    "dataset": None,
    "text_features_file": None,
    "device": "cpu",
    "cache_mb": 256,
    "max_waiting": 64,
    "probes": 0,
}
_LOOPBACK = ("127.", "::1", "localhost")
_STOP_SECONDS = 30


def serve(checkpoints: Sequence[str], options: Mapping[str, Any]) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is at work; see `recbole-hstu serve --help`.

    Raises:
        InputError: bad options, a checkpoint that cannot be loaded, a port that cannot be opened.
    """
    given = _checked(options)
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InputError(
            f"{TOKEN_VARIABLE}: holds what no client can send; take ASCII letters without spaces"
        )
    with open_door(given["host"], given["port"]) as door:
        models = [_load(Path(file), given) for file in checkpoints]
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise InputError(f"{', '.join(checkpoints)}: have one name; rename one")
        app = make_app(models, token=token, max_waiting=given["max_waiting"])
        # uvicorn sends itself the signal again that has stopped it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        _announce(door, given["host"], token)
        server_of(app, _STOP_SECONDS).run(sockets=[door])


def server_of(app: Guard, stop_seconds: float | None) -> uvicorn.Server:
    """What speaks HTTP for the application; `stop_seconds` is how long a stop waits for what is at
    work, None for as long as it takes."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=stop_seconds,  # type: ignore[arg-type]  # half seconds will do
    )
    return uvicorn.Server(config)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    texts = ("host", "dataset", "text_features_file", "device")
    given = _DEFAULTS | known_options(options, _DEFAULTS, texts)
    for key, least, most in (
        ("port", 0, 65535),
        ("cache_mb", 1, 1 << 20),
        ("max_waiting", 1, 10_000),
        ("probes", 0, 1 << 16),
    ):
        whole_number(given[key], f"--{key}", least, most)
    return given


def open_door(host: str, port: int) -> socket.socket:
    """The socket that is listened on; port 0 takes a free one.

    Raises:
        InputError: no such address, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise InputError(
            f"port {port} of {host} cannot be opened ({why}); name another with --host and --port"
        ) from error
    # Else the end of an answer waits 40 ms for the client's word that its beginning has come:
    # asyncio sets this for sockets alone that name their protocol.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return door


def _load(file: Path, given: Mapping[str, Any]) -> ServedModel:
    named = {key: given[key] for key in ("dataset", "text_features_file", "device")}
    rec = Recommender.load(file, **named)
    if given["probes"]:
        rec.index = ApproximateIndex(rec, given["probes"])
    titles = ItemTitles(rec.saved.item_tokens, read_titles(rec.saved.config))
    return ServedModel(file.stem, rec, titles, given["cache_mb"] << 20)


def _announce(door: socket.socket, host: str, token: str | None) -> None:
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"http://{shown}:{door.getsockname()[1]}/\n")
    if token is None and not host.startswith(_LOOPBACK):
        sys.stdout.write(
            f"warning: anybody who reaches {host} can ask; set {TOKEN_VARIABLE} to want a token\n"
        )
    sys.stdout.flush()
