"""The lines of a study or a search on the terminal, between the logs of its runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recbole_hstu.support.secrets import MaskSecrets

_ROOMS = ("recbole_hstu.studies", "recbole_hstu.tuning", "recbole_hstu.reports")


@contextmanager
def study_log() -> Iterator[None]:
    """Show what these rooms log, for the duration of a block."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%d %b %H:%M"))
    handler.addFilter(MaskSecrets())
    loggers = [logging.getLogger(room) for room in _ROOMS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
