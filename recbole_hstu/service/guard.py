"""What every request passes first: the token, the bound on waiting requests, that on its body."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from recbole_hstu.service.messages import MAX_BODY
from recbole_hstu.service.metrics import Metrics

BODY_SECONDS = 10.0

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


class Guard:
    """An ASGI application around another.

    A request is refused before its body is read where it can be: memory is bounded by
    `max_waiting` bodies of `MAX_BODY` bytes and their answers. Who does not send a body in time
    loses the place, and so does who does not read the answer (see `Connection`).

    Args:
        routes: of the application, by whose paths requests are counted.
        token: that clients must send; None for none.
        open_paths: that need no token.
        max_waiting: requests at work at once, beyond which the answer is 429.
    """

    def __init__(
        self,
        app: App,
        *,
        routes: Collection[Route],
        token: str | None,
        open_paths: Collection[str],
        max_waiting: int,
        metrics: Metrics,
    ):
        self.app, self.max_waiting, self.metrics = app, max_waiting, metrics
        self.routes, self.open_paths = routes, open_paths
        self._token = None if token is None else token.encode()
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        started, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            elif not message.get("more_body", False):
                # A send waits for the client to read what was sent before: the place is kept
                # until the answer is gone.
                await send({**message, "more_body": True})
                message = {"type": message["type"]}
            await send(message)

        self._count(1)
        try:
            await (refusal or self.app)(scope, _bounded(receive), send_with_headers)
        finally:
            self._count(-1)
            path = self._path(scope)
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def _path(self, scope: Scope) -> str:
        """That of the route, also where the request was refused before it got there."""
        matching = (r.path_format for r in self.routes if r.path_regex.match(scope["path"]))
        return next(matching, "other")

    def _count(self, change: int) -> None:
        self._waiting += change
        self.metrics.waiting.set(self._waiting)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = dict(scope["headers"])
        if scope["path"] not in self.open_paths and not self._is_allowed(headers):
            return _problem(
                401,
                "a bearer token is needed: send the header 'Authorization: Bearer ...'",
                {"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > MAX_BODY:
            return _problem(413, _TOO_LARGE, {"Connection": "close"})
        if self._waiting >= self.max_waiting and scope["path"] != "/healthz":
            return _problem(429, "too many requests wait; try again", {"Retry-After": "1"})
        return None

    def _is_allowed(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if self._token is None:
            return True
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)


_TOO_LARGE = f"the body is larger than {MAX_BODY:,} bytes"


def _problem(status: int, detail: str, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _bounded(receive: Receive) -> Receive:
    """`receive` for a body of `MAX_BODY` bytes that comes within `BODY_SECONDS`."""
    received = 0
    ends = asyncio.get_running_loop().time() + BODY_SECONDS
    is_whole = False

    async def bounded() -> Message:
        nonlocal received, is_whole
        if is_whole:  # what comes now is the end of the connection
            return await receive()
        left = ends - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(receive(), max(left, 0))
        except asyncio.TimeoutError as error:
            detail = f"the body did not come within {BODY_SECONDS:g} seconds"
            raise HTTPException(408, detail, {"Connection": "close"}) from error
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if received > MAX_BODY:
            raise HTTPException(413, _TOO_LARGE, {"Connection": "close"})
        return message

    return bounded
