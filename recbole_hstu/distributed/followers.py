"""The processes that a training with `--nproc` starts beside its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import torch.distributed as dist

from recbole_hstu.support.errors import InputError

# How long the first process, when a collective fails, waits to learn who died; and how long it may
# take to notice by itself (NCCL may never) before it is ended.
_GRACE_S, _NOTICE_S = 10.0, 30.0
FOLLOWER = "RECBOLE_HSTU_FOLLOWER"
_FOLLOW = "from recbole_hstu import quick_start; quick_start.follow()"


class Followers:
    """The processes beside the first one, started by it and never outliving it."""

    def __init__(self, processes: int, call: tuple):
        self.store = dist.TCPStore("127.0.0.1", 0, processes, True, wait_for_workers=False)
        self._over = False
        try:
            content = pickle.dumps(call)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(f"--nproc: the options cannot be handed on ({error})") from error
        self._started = [self._start(place, processes) for place in range(1, processes)]
        for process in self._started:
            self._hand_on(process, content)
        threading.Thread(target=self._watch, daemon=True).start()

    def _start(self, place: int, processes: int) -> subprocess.Popen:
        numbers = {
            "RANK": place,
            "LOCAL_RANK": place,
            "WORLD_SIZE": processes,
            "LOCAL_WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": self.store.port,
            FOLLOWER: 1,
        }
        environment = {**os.environ, **{key: str(value) for key, value in numbers.items()}}
        environment["PYTHONPATH"] = os.pathsep.join(p or "." for p in sys.path)
        command = [sys.executable, "-c", _FOLLOW]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)

    @staticmethod
    def _hand_on(process: subprocess.Popen, content: bytes) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died already, which `who_died` tells
            process.stdin.write(len(content).to_bytes(8, "little") + content)
            process.stdin.flush()  # it stays open: its end tells a follower that we are gone

    def wait_until_here(self) -> None:
        """Until all of them have started.

        Raises:
            RuntimeError: one of them died of it.
        """
        keys = [f"here/{place}" for place in range(1, len(self._started) + 1)]
        while not self.store.check(keys):
            if self.who_died(patience=0.1):
                raise RuntimeError("a process could not be started")

    def who_died(self, patience: float = _GRACE_S) -> str:
        """One line about the first follower that failed, empty if none does for a while."""
        until = time.monotonic() + patience
        while True:
            for place, process in enumerate(self._started, start=1):
                if process.poll() not in (None, 0):
                    return self._obituary(place, process.returncode)
            if time.monotonic() >= until:
                return ""
            time.sleep(0.1)

    def _obituary(self, place: int, status: int) -> str:
        how = f"with exit status {status}" if status > 0 else f"by signal {-status}"
        return (
            f"process {place + 1} of {len(self._started) + 1} was ended {how}, and the training "
            "with it"
        )

    def wait(self) -> None:
        """Let them finish; they have nothing left to do but to leave."""
        for process in self._started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)

    def end(self) -> None:
        """End those that are left."""
        self._over = True
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _watch(self) -> None:
        """End this process where one of the others died and no collective has noticed it."""
        died = ""
        while not died and not self._over:
            died = self.who_died(patience=1.0)
        until = time.monotonic() + _NOTICE_S
        while not self._over and time.monotonic() < until:
            time.sleep(0.2)
        if not self._over:
            sys.stderr.write(f"recbole-hstu: error: {died}\n")
            sys.stderr.flush()
            for process in self._started:
                process.kill()
            os._exit(1)


def read_call() -> tuple:
    """What the first process has handed to this follower; from now on it ends with that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process to handle
    stream = sys.stdin.buffer
    call = pickle.loads(stream.read(int.from_bytes(stream.read(8), "little")))

    def until_the_end() -> None:
        os.read(stream.fileno(), 1)  # no buffer, whose lock would be in the way at the exit
        os._exit(1)

    threading.Thread(target=until_the_end, daemon=True).start()
    return call
