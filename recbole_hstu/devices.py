"""Several processes, one training: who takes part, and what they tell each other.

Two ways lead here. `--nproc=N`: the process that runs the command is the first, and starts the
others for the duration of one training. `torchrun`: all are there already, and find rank and size
in the environment. Either way each process runs the whole training on its share of the rows.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from recbole_hstu.errors import InputError, ProcessDied

T = TypeVar("T")

# Waiting for the first process (it may convert a data set, or encode texts) has no limit: one that
# dies closes its connections, which ends the wait at once.
_PATIENCE = timedelta(days=365)
# How long the first process, when a collective fails, waits to learn who died; and how long it may
# take to notice by itself (NCCL may never) before it is ended.
_GRACE_S, _NOTICE_S = 10.0, 30.0
_FOLLOWER = "RECBOLE_HSTU_FOLLOWER"
_FOLLOW = "from recbole_hstu import quick_start; quick_start.follow()"


class _Now:
    """The training that goes on: the group whose processes exchange objects by way of the CPU."""

    talk: Any = None


def world_size(nproc: int) -> int:
    """How many processes a training is to have: torchrun's number, or else `nproc`.

    Raises:
        InputError: both are given and differ.
    """
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found > 1 and nproc not in (1, found):
        raise InputError(
            f"--nproc={nproc}: torchrun has started {found} processes; leave --nproc out"
        )
    return found if found > 1 else nproc


def by_torchrun() -> bool:
    """Whether the processes were started from outside."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and _FOLLOWER not in os.environ


def rank() -> int:
    """The number of this process, 0 for the first one and for the only one."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that logs and writes."""
    return rank() == 0


def device(processes: int, use_gpu: bool) -> torch.device:
    """What this process computes on: with several processes and GPUs, a GPU each.

    Raises:
        InputError: more processes than GPUs.
    """
    if not use_gpu:
        return torch.device("cpu")
    if processes == 1:
        return torch.device("cuda")
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", processes)), torch.cuda.device_count()
    if here > gpus:
        raise InputError(
            f"--nproc={here}: there are {gpus} GPUs, and each process needs one; use "
            f"--nproc={gpus}, or --use_gpu=False to train on CPUs"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def world() -> int:
    """How many processes take part in the training that goes on now."""
    return dist.get_world_size(_Now.talk) if _Now.talk is not None else 1


def share(count: int) -> range:
    """Which of `count` rows are this process's, when the processes share them in order."""
    own, of = (rank(), world()) if world() > 1 else (0, 1)
    return range(count * own // of, count * (own + 1) // of)


def gather(value: T) -> list[T]:
    """The value of every process, in their order, in every process."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value, group=_Now.talk)
    return values


def from_main(value: T) -> T:
    """The first process's value, in every process."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_Now.talk)
    return values[0]


def barrier() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier(group=_Now.talk)


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over the processes of a float64 tensor on the CPU."""
    if world() > 1:
        dist.all_reduce(values, group=_Now.talk)
    return values / world()


def main_first(action: Callable[[], T]) -> T:
    """Do something that may write files: the first process alone, then the others.

    Raises:
        InputError: in the others, where the first process failed (its own error says why).
    """
    if world() == 1:
        return action()
    if is_main():
        done = False
        try:
            result = action()
            done = True
        finally:
            from_main(done)
        return result
    if not from_main(False):
        raise InputError("the first process failed")
    return action()


@contextmanager
def team(config: Any, call: tuple) -> Iterator[None]:
    """Take part in a training for the duration of a block.

    Args:
        config: its `nproc` says how many processes there are to be, its `device` where.
        call: what the other processes hand to `quick_start.run`.

    Raises:
        ProcessDied: another process ended before its work was done.
    """
    if config["nproc"] == 1:
        yield
        return
    threads = torch.get_num_threads()
    followers = None if rank() or by_torchrun() else _Followers(config["nproc"], call)
    try:
        _join(config, followers)
        yield
        if followers:
            followers.wait()
    except RuntimeError as error:
        died = followers.who_died() if followers else _lost(error)
        if died:
            raise ProcessDied(died) from error
        raise
    finally:
        if followers:
            followers.end()
        _leave()
        torch.set_num_threads(threads)


def _join(config: Any, followers: _Followers | None) -> None:
    cuda = config["device"].type == "cuda"
    if cuda:
        torch.cuda.set_device(config["device"])
    elif "OMP_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", config["nproc"]))
        torch.set_num_threads(max(1, _cores() // here))
    backend = "nccl" if cuda else "gloo"
    if followers:
        followers.wait_until_here()
        store = dist.PrefixStore("default_pg", followers.store)
        dist.init_process_group(backend, store=store, rank=0, world_size=config["nproc"])
    else:
        if _FOLLOWER in os.environ:
            port = int(os.environ["MASTER_PORT"])
            dist.TCPStore("127.0.0.1", port, is_master=False).set(f"here/{rank()}", "")
        dist.init_process_group(backend)
    _Now.talk = dist.new_group(backend="gloo", timeout=_PATIENCE)


def _leave() -> None:
    _Now.talk = None
    if dist.is_initialized():
        dist.destroy_process_group()


def _cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _lost(error: RuntimeError) -> str:
    """What a failed collective says of the others; empty if it is another kind of error."""
    text = str(error)
    if isinstance(error, dist.DistError) or "gloo" in text or "onnection" in text:
        return "another process of this training has died; its own error says why"
    return ""


class _Followers:
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
            _FOLLOWER: 1,
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
