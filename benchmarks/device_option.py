"""The devices that a benchmark runs on: the CPU, then a GPU where there is one."""

from __future__ import annotations

import argparse
import time

import torch

from recbole_hstu.support.memory import keep_freed_memory

DEVICES = ("cpu", "cuda")


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, help="this one alone")


def parse(parser: argparse.ArgumentParser, *, threads: int) -> argparse.Namespace:
    """The options of a benchmark of steps, with torch as they and a training set it."""
    parser.add_argument("--threads", type=int, default=threads)
    add_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    return args


def asked(args: argparse.Namespace) -> tuple[str, ...]:
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device=cuda: torch finds no GPU here")
    if args.device:
        return (args.device,)
    return DEVICES if torch.cuda.is_available() else DEVICES[:1]


def wait_for(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def clock(device: str) -> float:
    """Seconds: of this process on a CPU, which other work does not lengthen; by the wall once a GPU
    is done."""
    wait_for(device)
    return time.perf_counter() if device == "cuda" else time.process_time()
