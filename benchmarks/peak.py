"""The memory of this process, now and at its peak, or of what it holds on a GPU."""

from __future__ import annotations

from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def reset_peak() -> float:
    """Forget the peak so far; MiB that the process holds now. Linux alone can do it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib(device: str = "cpu") -> float:
    """MiB. From Linux's own record: `getrusage` hands a new process its parent's peak."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return _status("VmHWM")


def own_and_mapped_mib() -> tuple[float, float]:
    """MiB that this process holds for itself now, and of mapped files, which it shares with every
    process that maps them. Linux alone can tell."""
    return _status("RssAnon"), _status("RssFile")


def _status(name: str) -> float:
    if not STATUS.exists():
        raise SystemExit("memory can be measured on Linux alone")
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
