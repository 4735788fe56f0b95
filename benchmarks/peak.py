"""The peak memory of this process, or of what it holds on a GPU."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def reset_peak() -> float:
    """Forget the peak so far; MiB that the process holds now. Linux alone can do it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib(device: str = "cpu") -> float:
    """MiB. From Linux's own record where there is one: `getrusage` hands a new process its
    parent's peak."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if STATUS.exists():
        line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
