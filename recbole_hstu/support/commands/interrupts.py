"""Ctrl-C that cannot get lost, and SIGTERM that ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it: what was done is kept and the way on is said.

    Attributes:
        status: with which the command ends.
    """

    status = 143


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the main thread, but where another program has settled what it
    does, and in processes of torchrun, which one that waits for the others would then outlive."""
    settled = "RANK" in os.environ or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    if settled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def sigterm_is_an_interrupt() -> bool:
    """Whether this process is in `sigterm_interrupts`."""
    return signal.getsignal(signal.SIGTERM) is _raise


class Interrupts:
    """Remembers SIGINT, and SIGTERM within `sigterm_interrupts`, during a `with` block.

    Python drops a KeyboardInterrupt that is raised while it cleans up an object or runs a
    callback; `check` raises it again.
    """

    def __init__(self) -> None:
        self._seen: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._seen = None
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT]
            if sigterm_is_an_interrupt():
                numbers.append(signal.SIGTERM)
            self._previous = {number: signal.signal(number, self._remember) for number in numbers}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _remember(self, number: int, frame: Any) -> None:
        self._seen = number
        _raise(number, frame)

    def check(self) -> None:
        """Raise the interrupt that was seen, if any."""
        if self._seen is not None:
            _raise(self._seen, None)


def _raise(number: int, _frame: Any) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
