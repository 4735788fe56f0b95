"""Several processes, one training: who takes part, and what they tell each other.

They are started by torch's launcher, through `--nproc=N` (`launcher`) or `torchrun`, and find their
numbers in the environment. Each runs the whole training on its share of the rows.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from recbole_hstu.support.errors import InputError, ProcessDied
from recbole_hstu.support.settings import Settings

T = TypeVar("T")

# Waiting for the first process (it may convert a data set, or encode texts) has no limit: one that
# dies closes its connections, which ends the wait at once.
_PATIENCE = timedelta(days=365)


class _Training:
    """The training that goes on: the group through which its processes exchange objects (gloo)."""

    group: Any = None
    joined = 0


def requested(nproc: int) -> int:
    """How many processes a training is to have: torchrun's number, or else `nproc`.

    Raises:
        InputError: both are given and differ, or the environment is not torchrun's.
    """
    found = _of_environment()
    if found > 1 and nproc not in (1, found):
        raise InputError(
            f"--nproc={nproc}: torchrun has started {found} processes; leave --nproc out"
        )
    return found if found > 1 else nproc


def started() -> bool:
    """Whether this process was started as one of several."""
    return _of_environment() > 1


def _of_environment() -> int:
    """How many processes torchrun has started, 1 where it has not.

    Raises:
        InputError: a scheduler's variables that are not torchrun's.
    """
    given = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK")}
    size, rank = given["WORLD_SIZE"], given["RANK"]
    if size in ("", "1"):
        return 1
    if not (size.isdigit() and rank.isdigit()):
        raise InputError(
            f"the environment has WORLD_SIZE={size} and RANK={rank}, not as torchrun sets them; "
            "unset both, or start with torchrun"
        )
    return int(size)


def launch_id() -> str:
    """What all starts of one job have in common, its restarts too; empty where nothing does."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none") if started() else "none"
    return "" if name == "none" else name  # torchrun's default, the same for every job


def rank() -> int:
    """The number of this process, 0 for the first one and for the only one."""
    return int(os.environ.get("RANK", "0")) if started() else 0


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


def count() -> int:
    """How many processes take part in the training that goes on now."""
    return dist.get_world_size(_Training.group) if _Training.group is not None else 1


def own_rows(rows: int) -> range:
    """Which of `rows` are this process's, when the processes share them in order."""
    own, of = (rank(), count()) if count() > 1 else (0, 1)
    return range(rows * own // of, rows * (own + 1) // of)


def gather(value: T) -> list[T]:
    """The value of every process, in their order, in every process."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value, group=_Training.group)
    return values


def from_main(value: T) -> T:
    """The first process's value, in every process."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=_Training.group)
    return values[0]


def barrier() -> None:
    """Wait for all processes."""
    if count() > 1:
        dist.barrier(group=_Training.group)


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over the processes of a tensor on the device that they compute on."""
    if count() > 1:
        dist.all_reduce(values)
    return values / count()


def main_first(action: Callable[[], T]) -> T:
    """Do something that may write files: the first process alone, then the others.

    Raises:
        InputError: in the others, where the first process failed (its own error says why).
    """
    if count() == 1:
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
def together(config: Settings) -> Iterator[None]:
    """Take part in a training for the duration of a block.

    Args:
        config: its `nproc` says how many processes there are, its `device` where this one computes.

    Raises:
        ProcessDied: another process ended before its work was done.
    """
    if config["nproc"] == 1:
        yield
        return
    threads = torch.get_num_threads()
    try:
        _join(config)
        yield
    except RuntimeError as error:
        if _lost(error):
            raise ProcessDied(
                "another process of this training has died; its own error says why"
            ) from error
        raise
    finally:
        _leave()
        torch.set_num_threads(threads)


def _join(config: Settings) -> None:
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    cuda = config["device"].type == "cuda"
    if cuda:
        torch.cuda.set_device(config["device"])
    elif "OMP_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", config["nproc"]))
        torch.set_num_threads(max(1, _cores() // here))
    store, place, size = next(rendezvous("env://"))
    _Training.joined += 1  # each of several trainings of one job has keys of its own
    store = dist.PrefixStore(f"training {_Training.joined}", store)
    store = dist.PrefixStore(_start_of_all(store, place, size), store)
    dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=place, world_size=size)
    _Training.group = dist.new_group(backend="gloo", timeout=_PATIENCE)


def _start_of_all(store: dist.Store, place: int, size: int) -> str:
    """A name of this start of the processes, the same in all of them.

    The launcher's store outlives a restart, and machines count restarts each for itself: the first
    process tells every other one its name until all have answered.
    """
    own = uuid.uuid4().hex
    if place:
        store.set(f"process {place}", own)
        start = store.get(f"start of {own}").decode()
        store.set(f"{start} {place}", "has it")
        return start
    missing = set(range(1, size))
    while missing:
        for other in missing:
            store.set("start of " + store.get(f"process {other}").decode(), own)
        missing = {other for other in missing if not store.check([f"{own} {other}"])}
        time.sleep(0.01)
    return own


def _leave() -> None:
    _Training.group = None
    if dist.is_initialized():
        dist.destroy_process_group()


def _cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _lost(error: RuntimeError) -> bool:
    """Whether a collective failed because of the others, as far as its words tell."""
    text = str(error)
    return isinstance(error, dist.DistError) or "gloo" in text or "onnection" in text
