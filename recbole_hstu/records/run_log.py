"""RecBole's log in `log/MODEL/`, and a few lines of it on the terminal.

The terminal shows what the loggers of this package say, and everybody's warnings. RecBole's own
words, and all that goes to its logger, stand in the file; with `verbose` on the terminal, too.
The file appears when the run has shown that its input is good; bad input leaves nothing behind.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import colorlog
from recbole.utils import ModelType, get_local_time
from recbole.utils.logger import RemoveColorFilter, log_colors_config

from recbole_hstu.config.config import Config
from recbole_hstu.config.option_checks import CLICKS
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import trained_weights
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.secrets import MaskSecrets

logger = logging.getLogger(__name__)


def _is_own_or_warning(record: logging.LogRecord) -> bool:
    own = record.name.partition(".")[0] in ("recbole_hstu", "dataset_converters")
    return own or record.levelno >= logging.WARNING


class _LogFile(logging.FileHandler):
    """A file that cannot be written any more is told of once, and the run goes on without it."""

    _is_lost = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_lost:
            self._is_lost = True
            why = in_a_line(error.strerror or error)
            logger.warning("%s: the log cannot be written any more (%s)", self.baseFilename, why)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class RunLog:
    """Handlers on the root logger for the duration of one run, as a context manager.

    Args:
        config: names the file and sets the level (`state`).
        quiet: the terminal shows warnings only (unless `verbose`).
    """

    def __init__(self, config: Config, *, quiet: bool = False):
        name = f"{config['model']}-{config['dataset']}-{get_local_time()}-{config.digest()}.log"
        self.path = Path("log") / config["model"] / name
        self.level = getattr(logging, str(config["state"] or "INFO").upper(), logging.INFO)
        self._verbose = bool(config["verbose"])
        self._quiet = quiet
        if not processes.is_main():  # the first process speaks for all
            self.level = logging.ERROR
        self._early = logging.handlers.MemoryHandler(1 << 20, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = []
        self._held: list[logging.LogRecord] | None = []

    def __enter__(self) -> RunLog:
        terminal = logging.StreamHandler()
        pattern, times = "%(log_color)s%(asctime)s  %(message)s", "%d %b %H:%M"
        terminal.setFormatter(
            colorlog.TTYColoredFormatter(
                pattern, times, log_colors=log_colors_config, stream=terminal.stream
            )
        )
        if not terminal.stream.isatty():
            terminal.addFilter(RemoveColorFilter())  # of what RecBole has coloured
        self._add(terminal)
        if not self._verbose:
            terminal.addFilter(_is_own_or_warning)
            terminal.addFilter(self._is_its_turn)
        self._terminal = terminal
        if self._quiet and not self._verbose:
            terminal.setLevel(max(self.level, logging.WARNING))
        self._add(self._early)
        self._previous = logging.getLogger().level
        logging.getLogger().setLevel(self.level)
        return self

    def _is_its_turn(self, record: logging.LogRecord) -> bool:
        """What was counted in the data waits until they are known to be good: an error about them
        stands alone."""
        held = self._held
        waits = held is not None and record.name.startswith("recbole_hstu.data")
        if held is not None and waits and record.levelno < logging.WARNING:
            held.append(record)
            return False
        return True

    def show_counts(self) -> None:
        """The data are good: show what was counted in them, on the terminal."""
        held, self._held = self._held or [], None
        for record in held:
            self._terminal.handle(record)

    def open(self) -> Path:
        """Create the file and write to it what was logged so far; the first process does.

        Raises:
            InputError: the folder cannot be written.
        """
        self.show_counts()
        if not processes.is_main():
            self._remove(self._early)
            return self.path
        try:
            file = self._new_file()
        except OSError as error:
            raise InputError(f"{self.path}: the log cannot be written ({error})") from error
        file.setFormatter(
            logging.Formatter("%(asctime)-15s %(levelname)s  %(message)s", "%a %d %b %Y %H:%M:%S")
        )
        file.addFilter(RemoveColorFilter())
        self._early.setTarget(file)
        self._early.flush()
        self._remove(self._early)
        self._add(file)
        return self.path

    def say_what_runs(self, config: Any, data: Any, network: Any) -> None:
        """The head of what the terminal shows: the input is good, the training begins."""
        traditional = config["MODEL_TYPE"] == ModelType.TRADITIONAL  # counts or texts, no weights
        weights = trained_weights(network)
        logger.info(
            "%s%s on %s, protocol %s, seed %d, device %s",
            *(config["model"], "" if traditional else f" ({weights:,} parameters)"),
            *(config["dataset"], config["protocol"], config["seed"], config["device"]),
        )
        if config["MODEL_TYPE"] in CLICKS:
            logger.info("%s predicts clicks: eval_args decide, no protocol", config["model"])
        # `inter_feat` of a sequence data set is made when it is asked for, and costs memory.
        events = data.event_feat if hasattr(data, "event_feat") else data.inter_feat
        counts = (data.user_num - 1, data.item_num - 1, len(events))
        logger.info("data: %s users, %s items, %s interactions", *(f"{n:,}" for n in counts))
        logger.info("log: %s", self.path)

    def _new_file(self) -> logging.FileHandler:
        """A file of this run alone: another one may have begun in the same second."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        named, number = self.path, 1
        while True:
            try:
                return _LogFile(self.path, mode="x", encoding="utf-8")
            except FileExistsError:
                number += 1
                self.path = named.with_stem(f"{named.stem}-{number}")

    def _add(self, handler: logging.Handler) -> None:
        handler.setLevel(self.level)
        handler.addFilter(MaskSecrets())
        logging.getLogger().addHandler(handler)
        self._handlers.append(handler)

    def _remove(self, handler: logging.Handler) -> None:
        logging.getLogger().removeHandler(handler)
        self._handlers.remove(handler)

    def __exit__(self, *_: Any) -> None:
        for handler in list(self._handlers):
            self._remove(handler)
            if handler is not self._early:
                handler.close()
        logging.getLogger().setLevel(self._previous)
