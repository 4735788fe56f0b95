"""`--nproc`: torch's own launcher (torch.distributed.elastic) for one training on this machine."""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from recbole_hstu.distributed import processes
from recbole_hstu.support.child_processes import end_with_parent, quiet_tracker
from recbole_hstu.support.commands.interrupts import Terminated, sigterm_is_an_interrupt
from recbole_hstu.support.errors import (
    CannotWrite,
    InputError,
    ProcessDied,
    handed_on,
    in_a_line,
)
from recbole_hstu.support.files.whole_file import write_whole

# How long a process that has failed waits for the others to find it out.
_GRACE_S = 30.0
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_CHATTY = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")
# Errors that keep their kind on the way here; the first one that fits.
_KINDS = {kind.__name__: kind for kind in (CannotWrite, InputError, ProcessDied)}


@dataclass(frozen=True)
class _Refused:
    """What a process returns that has ended with an `InputError`, or has lost another one."""

    message: str
    kind: str  # of `_KINDS`

    @staticmethod
    def of(error: InputError | ProcessDied) -> _Refused:
        return _Refused(str(error), next(k for k, c in _KINDS.items() if isinstance(error, c)))

    def error(self) -> InputError | ProcessDied:
        return _KINDS[self.kind](self.message)


def _noted(note: Path) -> _Refused:
    return _Refused(**json.loads(note.read_text(encoding="utf-8")))


def launch(
    nproc: int, restarts: int, function: Callable, *arguments: Any, run_id: str | None = None
) -> Any:
    """Call a function in several processes, with rank and size in the environment of each.

    Args:
        restarts: how often all of them are started again after one has died.
        run_id: a name of this launch, which checkpoints keep; by default a random one.

    Returns:
        What the function has returned in the first process.

    Raises:
        InputError: the call cannot be handed on, or the function has raised one.
        ProcessDied: a process was ended by a signal.
        RuntimeError: the function has raised another error, which the message names.
    """
    content, interrupts = _packed(function, arguments), sigterm_is_an_interrupt()
    with _as_before(), tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "refusal"
        try:
            results = elastic_launch(_how(nproc, restarts, run_id), _work)(content, note)
        except ChildFailedError as error:
            if note.exists():
                raise _noted(note).error() from None
            raise _obituary(*error.get_first_failure(), nproc) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            if error.sigval == signal.SIGTERM and interrupts:
                raise Terminated from None
            raise SystemExit(128 + error.sigval) from None
    refusals = [result for result in results.values() if isinstance(result, _Refused)]
    for refusal in sorted(refusals, key=lambda refusal: refusal.kind == ProcessDied.__name__):
        raise refusal.error()
    return results[0]


def _how(nproc: int, restarts: int, run_id: str | None) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=run_id or uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=restarts,
    )


def _work(content: bytes, note: Path) -> Any:
    """What each process does; only the first one's result travels back.

    Args:
        note: of the `InputError` that one has met, for the case that its value is lost: others
            that work on for long are ended, and it with them.
    """
    end_with_parent()
    if note.exists():  # bad input is no death: the second start has the same
        return _noted(note)
    if not processes.is_main():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the first one says how to go on
    try:
        function, arguments = pickle.loads(content)
        result = function(*arguments)
    except (InputError, ProcessDied) as error:
        # A value, so that nothing is started again: the others return, too, as they fail with the
        # same error or lose this process. Those that do not notice are ended.
        refused = _Refused.of(error)
        if isinstance(error, InputError):
            write_whole(note, json.dumps(asdict(refused)))
        timer = threading.Timer(_GRACE_S, os._exit, [1])
        timer.daemon = True
        timer.start()
        return refused
    except Exception:
        sys.stderr.write(f"process {processes.rank() + 1}: {traceback.format_exc()}")
        raise
    return result if processes.is_main() else None


def _obituary(rank: int, failure: ProcessFailure, of: int) -> Exception:
    which = f"process {rank + 1} of {of}"
    if failure.exitcode < 0:
        return ProcessDied(
            f"{which} was ended by signal {-failure.exitcode}, and the training with it"
        )
    message = failure.message
    if isinstance(message, dict):
        message = message.get("message", "")
    return RuntimeError(f"{which} ended with exit status {failure.exitcode}: {in_a_line(message)}")


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back what the launcher changes in this process, and let us report in its place."""
    chatty = [logging.getLogger(name) for name in _CHATTY]
    were_disabled = [one.disabled for one in chatty]
    for one in chatty:
        one.disabled = True
    in_main = threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in known} if in_main else {}
    try:
        with quiet_tracker():
            yield
    finally:
        for one, was_disabled in zip(chatty, were_disabled, strict=True):
            one.disabled = was_disabled
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _packed(function: Callable, arguments: tuple) -> bytes:
    """The call as bytes that the processes can read.

    Raises:
        InputError: they could not.
    """
    with handed_on("--nproc"):
        content = pickle.dumps((function, arguments))
    main = sys.modules["__main__"]
    file: Any = getattr(main, "__file__", None)
    script = file is not None and getattr(main, "__spec__", None) is None
    piped = script and not Path(file).is_file()  # as `python < train.py` has it
    if piped or (file is None and b"__main__" in content):
        raise InputError(
            "--nproc: what is typed into a notebook or an interpreter cannot be handed to other "
            "processes; write it to a file and import it"
        )
    if script:
        _check_guarded(Path(file))
    return content


def _check_guarded(file: Path) -> None:
    """Whether the other processes, which import the main script, would not run all of it again.

    Raises:
        InputError: they would.
    """
    frame, line = sys._getframe(), 0
    while frame is not None:
        if frame.f_globals is vars(sys.modules["__main__"]) and frame.f_code.co_name == "<module>":
            line = frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    if not line or not file.is_file():
        return  # started by something else, such as a console
    for statement in ast.parse(file.read_bytes()).body:
        if statement.lineno <= line <= (statement.end_lineno or 0):
            names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if not isinstance(statement, ast.If) or "__name__" not in names:
                raise InputError(
                    f'--nproc: {file}, line {line}: stands outside of `if __name__ == "__main__":`,'
                    " so that every process would start others; put it inside"
                )
