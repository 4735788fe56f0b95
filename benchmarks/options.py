"""What `enable_amp`, `float32_matmul_precision` and `torch_compile` bring to a step of HSTUText.

    python benchmarks/options.py [--threads 1] [--device cpu]

On the CPU, then on a GPU where there is one, unless --device names one of them. Seconds (of the
processor on a CPU) of the best of several steps, alternating in one process, and the relative error
of the loss against float32 with the same weights, negatives and no dropout.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import device_option
import torch
from device_option import clock
from step import FUSIONS, histories, make_model, text_file, train_step

from recbole_hstu.model.hstutext import HSTUText

ITEMS, TEXT, REPEATS = 24_587, 768, 7
WAYS = ("float32", "enable_amp", "high", "medium", "torch_compile")


def main() -> None:
    args = device_option.parse(argparse.ArgumentParser(description=__doc__), threads=1)
    file = text_file(ITEMS, TEXT)
    try:
        for device in device_option.asked(args):
            for loss_type in ("sampled", "shared", "full"):
                report(device, loss_type, *measure(device, loss_type, file))
    finally:
        file.unlink()


def report(device: str, loss_type: str, seconds: dict[str, float], losses: dict[str, float]):
    for way in WAYS:
        ratio = seconds["float32"] / seconds[way]
        error = abs(losses[way] / losses["float32"] - 1)
        sys.stdout.write(
            f"{device} {loss_type:8} {way:13} {seconds[way]:.4f} s  {ratio:.2f} times as fast  "
            f"loss differs by {error:.0e}\n"
        )


def measure(device: str, loss_type: str, file) -> tuple[dict[str, float], dict[str, float]]:
    batch = {key: values.to(device) for key, values in histories(ITEMS).items()}
    options = {"loss_type": loss_type, "text_features_file": str(file), "fusion": FUSIONS[1]}
    models = {
        way: make_model(
            HSTUText, ITEMS, device=device, torch_compile=way == "torch_compile", **options
        )
        for way in WAYS
    }
    losses = {}
    for way, model in models.items():
        model.draws.at(0, 0)
        with chosen(way, device), torch.no_grad():
            losses[way] = model.eval().calculate_loss(batch).item()
        model.train()
    optimizers = {way: torch.optim.AdamW(m.parameters(), fused=True) for way, m in models.items()}
    seconds: dict[str, float] = {}
    for _ in range(REPEATS):
        for way, model in models.items():
            started = clock(device)
            with chosen(way, device):
                train_step(model.calculate_loss, optimizers[way], batch)
            taken = clock(device) - started
            seconds[way] = min(taken, seconds.get(way, taken))
    return seconds, losses


@contextlib.contextmanager
def chosen(way: str, device: str):
    torch.set_float32_matmul_precision(way if way in ("high", "medium") else "highest")
    with torch.autocast(device, dtype=torch.bfloat16, enabled=way == "enable_amp"):
        yield
    torch.set_float32_matmul_precision("highest")


if __name__ == "__main__":
    main()
