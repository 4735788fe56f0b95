"""The peak memory of this process, or of what it holds on a GPU."""

from __future__ import annotations

import resource
from pathlib import Path

import torch


def peak_mib(device: str = "cpu") -> float:
    """MiB. From Linux's own record where there is one: `getrusage` hands a new process its
    parent's peak."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
