"""A client's connection, which is not kept for answers that nobody reads."""

from __future__ import annotations

from asyncio import TimerHandle

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_SECONDS = 30.0


class Connection(H11Protocol):
    """uvicorn's connection over h11, which bounds the headers.

    Where more of the answers waits for the client than uvicorn's mark (64 KiB), it must be read
    within `SEND_SECONDS`: uvicorn would wait for ever. The connection is then cut, not closed,
    since closing waits for the client, too.
    """

    _limit: TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_limit()

    def _forget_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
