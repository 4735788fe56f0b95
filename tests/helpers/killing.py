"""Processes that are killed at a random moment, without paying for Python's start each time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

# A job that ends well says which modules it took: torch loads a second's worth of them late.
_LOOP = """
import contextlib, importlib, os, pathlib, sys
{setup}
def job(word):
{job}
print("ready", flush=True)
for line in iter(sys.stdin.readline, ''):
    taken = pathlib.Path("taken.txt")
    for name in taken.read_text().split() if taken.exists() else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    taken.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            sys.stdout = sys.stderr
            job(line.strip())
            taken.write_text(" ".join(sys.modules))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Victims:
    """Starts the same job again and again, each in a process of its own.

    Args:
        setup: imports, done once.
        job: the body of the function that each process runs; it knows the `word` of its start.
    """

    def __init__(self, setup: str, job: str):
        body = "".join(f"    {line}\n" for line in job.strip().splitlines())
        self.errors = Path("victims.log").open("w+")  # noqa: SIM115 - as long as they live
        self._server = subprocess.Popen(
            [sys.executable, "-c", _LOOP.format(setup=setup, job=body)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "OMP_NUM_THREADS": "1",
            },
        )
        assert self._read() == "ready"

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *_) -> None:
        self._server.kill()
        self._server.wait()
        self.errors.close()

    def run(self, word: str, until: Callable[[], bool] | bool = False) -> bool:
        """One start; whether it was killed. What ends by itself must end well.

        Args:
            until: asked again and again; the process is killed as soon as it says True.
        """
        print(word, file=self._server.stdin, flush=True)
        process = int(self._read())
        if callable(until):
            here = psutil.Process(process)
            while here.status() != psutil.STATUS_ZOMBIE and not until():
                time.sleep(0.01)
            os.kill(process, signal.SIGKILL)  # nobody has waited for it: the id is still its own
        print("wait", file=self._server.stdin, flush=True)
        status = int(self._read())
        if status not in (0, -signal.SIGKILL):
            self.errors.seek(0)
            raise AssertionError(self.errors.read()[-3000:])
        return status == -signal.SIGKILL

    def _read(self) -> str:
        return self._server.stdout.readline().strip()


def moment(moments: random.Random, progress: Callable[[], int], most: int) -> Callable[[], bool]:
    """A random moment: after up to `most` steps of progress, and a little later.

    Args:
        progress: what has been done so far; a busy machine takes its time.
    """
    wanted, wait = progress() + moments.randint(0, most), moments.uniform(0, 0.1)
    reached: list[float] = []

    def now() -> bool:
        if not reached and progress() >= wanted:
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() - reached[0] >= wait

    return now
