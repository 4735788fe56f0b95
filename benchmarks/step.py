"""One training step: ours under every loss, the published algorithm's, and the machine's floor.

    python benchmarks/step.py [--items 24587] [--text 768] [--threads 2] [--device cpu|cuda]

On the CPU, then on a GPU where there is one, unless --device names one of them. Times are measured
in one process, all in turn, round after round, each the second of two steps; the table shows
medians, and its ratios are medians over the rounds too. Peak memory comes from a process of its
own for each. Only the ratios mean something. The loss of `sampled` is compared with the published
algorithm's before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import device_option
import floor
import numpy as np
import torch
from device_option import wait_for
from own_process import in_own_process
from peak import peak_mib
from published import Published

from recbole_hstu.config.config import Config
from recbole_hstu.data.files.side_feature_file import write_text_features
from recbole_hstu.layers.losses import sampled_softmax
from recbole_hstu.model.hstutext import HSTUText

BATCH, NEGATIVES, ROUNDS = 128, 512, 15
ROWS = 1 << 16  # of text vectors that are drawn at once
FUSIONS = ("id_only", "sum")
KINDS = ("published", "sampled", "shared", "full")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=24_587)
    parser.add_argument("--text", type=int, default=768)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # of one kind and fusion, as JSON
    args = device_option.parse(parser, threads=2)
    file = text_file(args.items, args.text)
    if args.memory:
        sys.stdout.write(json.dumps(peak_memory(*args.memory.split(":"), args, file)))
        return
    try:
        for device in device_option.asked(args):
            args.device = device
            seconds, rates = measure(args, file)
            memory = {
                (kind, fusion): in_own_process(
                    *sys.argv[1:], f"--memory={kind}:{fusion}", f"--device={args.device}"
                )
                for kind in KINDS
                for fusion in FUSIONS
            }
            report(seconds, rates, memory, args)
    finally:
        file.unlink()


def measure(args: argparse.Namespace, file: Path) -> tuple[dict[Any, np.ndarray], floor.Rates]:
    """Seconds of a step of every kind with and without text, and the machine's rates, round by
    round."""
    batch = histories(args.items)
    steps: dict[Any, Any] = {
        (kind, fusion): Step(kind, fusion, args, file, batch)
        for kind in KINDS
        for fusion in FUSIONS
    }
    for fusion in FUSIONS:
        check_equal(steps["sampled", fusion], steps["published", fusion])
    machine = floor.Machine(args.device)
    timed = rounds(steps | {"product": machine.product, "copy": machine.copy}, args.device)
    seconds = {key: np.array(taken) for key, taken in timed.items()}
    return seconds, machine.rates(seconds["product"], seconds["copy"])


def rounds(steps: dict[Any, Callable], device: str) -> dict[Any, list[float]]:
    seconds: dict[Any, list[float]] = {key: [] for key in steps}
    for _ in range(ROUNDS):
        for key, step in steps.items():
            step()  # as in training: what it needs lies in the caches, as far as it fits
            wait_for(device)
            started = time.perf_counter()
            step()
            wait_for(device)
            seconds[key].append(time.perf_counter() - started)
    return seconds


def peak_memory(kind: str, fusion: str, args: argparse.Namespace, file: Path) -> float:
    """GiB above what the imports take, or of the GPU: model, optimiser, three steps."""
    before = peak_mib(args.device)
    step = Step(kind, fusion, args, file, histories(args.items))
    for _ in range(3):
        step()
    return (peak_mib(args.device) - before) / 1024


def report(seconds: dict, rates: floor.Rates, memory: dict, args: argparse.Namespace) -> None:
    lengths = histories(args.items)["item_length"]
    sys.stdout.write(
        f"{args.items:,} items, batch {BATCH}, {int(lengths.sum()):,} positions, {NEGATIVES} "
        f"negatives, text {args.text} wide, {args.threads} threads, {args.device}\n"
        f"{'':12}{'id only':>9}{'memory':>11}{'times':>7}{'text':>11}{'memory':>11}{'times':>7}"
        f"{'text/id':>9}\n"
    )
    for kind in KINDS:
        line = f"{kind:12}"
        for fusion in FUSIONS:
            taken, size = seconds[kind, fusion], memory[kind, fusion]
            faster = np.median(seconds["published", fusion] / taken)
            line += f"{np.median(taken):>9.3f} s{size:>7.2f} GiB{faster:>7.1f}"
        line += f"{np.median(seconds[kind, 'sum'] / seconds[kind, 'id_only']):>9.2f}"
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"this machine: {rates}\n")
    for fusion, width in zip(FUSIONS, (0, args.text), strict=True):
        least = floor.step(lengths, items=args.items, text=width, negatives=NEGATIVES)
        sys.stdout.write(
            f"floor of sampled, {fusion}: {least.describe(rates)}; the step takes "
            f"{np.median(seconds['sampled', fusion] / least.seconds(rates)):.1f} times that\n"
        )


def train_step(
    loss: Callable[[Any], torch.Tensor], optimizer: torch.optim.Optimizer, batch: Any
) -> None:
    """Loss, gradients, and the step of the optimiser."""
    optimizer.zero_grad()
    loss(batch).backward()
    optimizer.step()


class Step:
    """A full training step: loss, gradients, AdamW."""

    def __init__(self, kind: str, fusion: str, args: argparse.Namespace, file: Path, batch):
        cls = Published if kind == "published" else HSTUText
        loss_type = "sampled" if kind == "published" else kind
        options = {"fusion": fusion, "loss_type": loss_type, "text_features_file": str(file)}
        self.model = make_model(cls, args.items, device=args.device, **options)
        self.batch = {key: values.to(args.device) for key, values in batch.items()}
        # As the trainers do: ours asks for the fused optimiser.
        fused = True if cls is HSTUText else None
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=fused)

    def __call__(self) -> None:
        train_step(self.loss, self.optimizer, self.batch)

    def loss(self, batch) -> torch.Tensor:
        if not isinstance(self.model, Published):
            return self.model.calculate_loss(batch)
        self.model.draws.advance()
        return self.model.loss(batch, drawn_for(self.model, batch))


def drawn_for(model: HSTUText, batch) -> torch.Tensor:
    lengths = batch["item_length"].cpu()
    return model.draw_negatives(lengths, torch.arange(len(lengths)))


def check_equal(ours: Step, theirs: Step) -> None:
    """The same weights and negatives give the same loss, to 1e-5."""
    theirs.model.load_state_dict(ours.model.state_dict())
    ours.model.eval()
    theirs.model.eval()
    drawn = drawn_for(theirs.model, theirs.batch)
    inputs, candidates = ours.model.items()
    hidden, packing = ours.model.forward(ours.batch, inputs)
    positives = packing.pack(ours.model.shifted(ours.batch, "item_id_list", "item_id"))
    table = ours.model.normalised(candidates)
    mine = sampled_softmax(hidden, table, positives, drawn, temperature=ours.model.temperature)
    batch = {key: values[packing.order] for key, values in theirs.batch.items()}
    other = theirs.model.loss(batch, drawn)
    if abs(mine.item() - other.item()) > 1e-5 * other.item():
        raise SystemExit(f"the losses differ: {mine.item()} and {other.item()}")
    ours.model.train()
    theirs.model.train()


def make_model(cls, n_items: int, *, device: str = "cpu", **options):
    """A model with the settings of Amazon's data sets, for a catalogue without a data set."""
    options["use_gpu"] = device == "cuda"
    name = cls.__name__.replace("Published", "HSTUText")
    config = Config(name, "musical_instruments", None, options)
    tokens = np.array(["[PAD]", *map(str, range(1, n_items))])
    dataset = SimpleNamespace(
        num=lambda _: n_items, field2id_token={"item_id": tokens}, iid_field="item_id"
    )
    torch.manual_seed(0)
    return cls(config, dataset).to(device)


def text_file(n_items: int, width: int, storage: Any = "float32") -> Path:
    """Drawn text vectors, their rows in another order than the ids, and never all in memory."""
    path = Path(f"step-{n_items}-{width}-{storage}.safetensors")
    if path.exists():
        return path
    generator, rows = np.random.default_rng(0), path.with_suffix(".rows")
    vectors = np.memmap(rows, storage, "w+", shape=(n_items - 1, width))
    for start in range(0, len(vectors), ROWS):
        part = vectors[start : start + ROWS]
        part[:] = generator.standard_normal(part.shape, np.float32)
    texts = dict.fromkeys(map(str, (1 + generator.permutation(len(vectors))).tolist()), "")
    write_text_features(path, texts, vectors, {}, storage_dtype=storage)
    rows.unlink()
    return path


def histories(
    n_items: int, *, rows: int = BATCH, longest: int = 50, mean: int = 8
) -> dict[str, torch.Tensor]:
    """Users of 1 to `longest` events; by default the shape of Amazon's 5-core files."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.empty(rows).exponential_(1 / (mean - 1), generator=generator)
    lengths = (1 + drawn).long().clamp(1, longest)
    inside = torch.arange(longest) < lengths.unsqueeze(1)
    shape = (rows, longest)
    items = torch.randint(1, n_items, shape, generator=generator) * inside
    times = torch.randint(0, 10**11, shape, generator=generator).sort(1).values * inside
    return {
        "item_id_list": items,
        "timestamp_list": times,
        "item_length": lengths,
        "item_id": torch.randint(1, n_items, (rows,), generator=generator),
        "timestamp": torch.full((rows,), 2 * 10**11),
    }


if __name__ == "__main__":
    main()
