"""Processes that work side by side, each on a GPU of its own where there are several."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from recbole_hstu.studies.study_log import study_log
from recbole_hstu.support.child_processes import end_with_parent, quiet_tracker
from recbole_hstu.support.errors import InputError, handed_on

logger = logging.getLogger(__name__)


def side_by_side(
    jobs: int, work: Callable[..., None], arguments: Callable[[str | None], tuple]
) -> None:
    """Call `work(*arguments(gpu))` in each of `jobs` processes and wait for all of them.

    One that is killed is reported; what it had begun is for the others to see to.

    Args:
        work: a function at the top of a module.
        arguments: of the process with this GPU, see `gpu_of_each`. A process counts its GPUs as
            soon as it has made a configuration, so each of theirs has to name it.

    Raises:
        InputError: the arguments cannot be handed to other processes.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(threads, work, *arguments(gpu)))
        for gpu in gpu_of_each(jobs)
    ]
    try:
        with handed_on("--jobs"), quiet_tracker():
            for worker in workers:
                worker.start()
        running = list(workers)
        while running:
            multiprocessing.connection.wait([worker.sentinel for worker in running])
            for worker in [w for w in running if not w.is_alive()]:
                running.remove(worker)
                if worker.exitcode:
                    logger.error(
                        "worker %s ended with status %s; the others go on: %d",
                        *(worker.pid, worker.exitcode, len(running)),
                    )
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()


def gpu_of_each(jobs: int) -> list[str | None]:
    """The `gpu_id` of each process, in turn; None where there is one GPU at most."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    gpus = seen.split(",")[:count] if seen else [str(gpu) for gpu in range(count)]
    return [gpus[job % count] if count > 1 else None for job in range(jobs)]


def on_gpu(options: Mapping[str, Any], gpu: str | None) -> Mapping[str, Any]:
    """Options of a run, for the GPU of its process."""
    return options if gpu is None else {**options, "gpu_id": gpu}


def _worker(threads: int, work: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")  # as cli does
    end_with_parent()
    with study_log():
        try:
            work(*arguments)
        except InputError as error:
            logger.error("%s", error)
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
