"""Concurrent requests, answered together by one thread.

Only this thread computes and touches cached histories, so that neither needs a lock. It takes
whatever came while it was busy: a lone request waits for nothing, and of many each waits for the
batch before its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any

from starlette.exceptions import HTTPException

from recbole_hstu.support.errors import InputError

# Requests of one batch.
AT_ONCE = 64

logger = logging.getLogger(__name__)

# Requests -> an answer, or the error, of each. Requests side by side in the queue that have the
# same function are given to it together.
Answer = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass
class _Job:
    answer: Answer
    request: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Batcher:
    """A queue and the thread that answers it. Its length is bounded by who fills it: see `Guard`.

    Args:
        on_batch: told how many requests each batch has.
    """

    def __init__(self, on_batch: Callable[[int], Any] = lambda size: None):
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    async def ask(self, answer: Answer, request: Any) -> Any:
        """The answer to one request, computed with those that come at the same time.

        Raises:
            InputError: what the request has wrong, whatever its neighbours have.
            HTTPException: 503, the service stops.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._queue.put(_Job(answer, request, loop, future))
        try:
            return await future
        except asyncio.CancelledError as error:  # uvicorn's, after its time to stop
            raise HTTPException(503, "the service stops; ask again") from error

    async def ask_alone(self, answer: Callable[..., Any], *given: Any) -> Any:
        """`ask` for what gains nothing by company; `answer` takes one request, and raises its
        errors itself."""
        return await self.ask(lambda _: [answer(*given)], None)  # like no other function

    def close(self) -> None:
        """Answer who still waits in the queue and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            jobs, is_open = self._waiting()
            for answer, same in groupby(jobs, key=lambda job: job.answer):
                group = [job for job in same if not job.future.done()]  # else who asked is gone
                if not group:
                    continue
                self._on_batch(len(group))
                answers = answers_of(answer, [job.request for job in group])
                for job, found in zip(group, answers, strict=True):
                    job.loop.call_soon_threadsafe(_settle, job.future, found)

    def _waiting(self) -> tuple[list[_Job], bool]:
        """At least one job, and those that wait by now; whether there may be more."""
        jobs: list[_Job] = []
        while len(jobs) < AT_ONCE:
            try:
                job = self._queue.get(block=not jobs)
            except Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
        return jobs, True


def answers_of(answer: Answer, requests: Sequence[Any]) -> Sequence[Any]:
    """An answer or an error for each request; where they fail together, each by itself."""
    try:
        return list(answer(requests))
    except Exception as error:
        if len(requests) > 1:
            return [answers_of(answer, [request])[0] for request in requests]
        if not isinstance(error, InputError):
            logger.exception("a request has failed")
        return [error]


def _settle(future: asyncio.Future[Any], found: Any) -> None:
    if future.done():  # who asked is gone
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)
