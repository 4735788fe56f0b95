"""Ctrl-C that cannot get lost."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Remembers SIGINT for the duration of a `with` block.

    Python drops a KeyboardInterrupt that is raised while it cleans up an object or runs a
    callback; `check` raises it again.
    """

    def __init__(self) -> None:
        self._seen = False
        self._previous: Any = None

    def __enter__(self) -> Interrupts:
        self._seen = False
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _remember(self, *_: Any) -> None:
        self._seen = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise the interrupt that was seen, if any."""
        if self._seen:
            raise KeyboardInterrupt
