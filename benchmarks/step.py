"""One training step, ours against the published algorithm's, with and without text.

    python benchmarks/step.py [--items 24587] [--text 768] [--threads 2]

Everything is measured in one run, alternating, the best of several; only the ratios mean something.
The loss of both is compared before anything is timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from published import Published

from recbole_hstu.config import Config
from recbole_hstu.data.text_features import write_text_features
from recbole_hstu.memory import keep_freed_memory
from recbole_hstu.model.hstutext import HSTUText
from recbole_hstu.model.losses import sampled_softmax

ITEMS, TEXT, BATCH, REPEATS = 24_587, 768, 128, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--text", type=int, default=TEXT)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    batch = histories(args.items, generator)
    file = text_file(args.items, args.text)
    steps = {}
    try:
        for fusion in ("id_only", "sum"):
            for cls in (HSTUText, Published):
                model = make_model(cls, fusion, args.items, file)
                steps[cls.__name__, fusion] = Step(model, batch)
    finally:
        file.unlink()
    for fusion in ("id_only", "sum"):
        check_equal(steps["HSTUText", fusion], steps["Published", fusion])
    seconds = {key: [] for key in steps}
    for _ in range(REPEATS):
        for key, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - started)
    report({key: min(values) for key, values in seconds.items()}, args)


def report(best: dict, args: argparse.Namespace) -> None:
    lines = [
        f"{args.items:,} items, batch {BATCH}, 512 negatives, text {args.text} wide, "
        f"{args.threads} threads",
        f"{'':24}{'id only':>10}{'with text':>11}{'text/id':>9}",
    ]
    for name, label in (("Published", "published algorithm"), ("HSTUText", "recbole_hstu")):
        ids, text = best[name, "id_only"], best[name, "sum"]
        lines.append(f"{label:24}{ids:>9.3f}s{text:>10.3f}s{text / ids:>9.2f}")
    ratios = [best["Published", f] / best["HSTUText", f] for f in ("id_only", "sum")]
    lines.append(f"{'times faster':24}{ratios[0]:>10.1f}{ratios[1]:>11.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


class Step:
    """A full training step: loss, gradients, AdamW."""

    def __init__(self, model, batch):
        self.model, self.batch = model, batch
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def loss(self) -> torch.Tensor:
        if not isinstance(self.model, Published):
            return self.model.calculate_loss(self.batch)
        return self.model.loss(self.batch, negatives(self.model, self.batch))


def negatives(model, batch) -> torch.Tensor:
    size = (int(batch["item_length"].sum()), model.num_negatives)
    return torch.randint(1, model.n_items, size, generator=model.generator)


def check_equal(ours: Step, theirs: Step) -> None:
    """The same weights and negatives give the same loss, to 1e-5."""
    theirs.model.load_state_dict(ours.model.state_dict())
    ours.model.eval()
    theirs.model.eval()
    drawn = negatives(theirs.model, theirs.batch)
    inputs, candidates = ours.model.items()
    hidden, packing = ours.model.forward(ours.batch, inputs)
    positives = packing.pack(ours.model.shifted(ours.batch, "item_id_list", "item_id"))
    table = ours.model.normalised(candidates)
    mine = sampled_softmax(hidden, table, positives, drawn, temperature=ours.model.temperature)
    other = theirs.model.loss(theirs.batch, drawn)
    if abs(mine.item() - other.item()) > 1e-5 * other.item():
        raise SystemExit(f"the losses differ: {mine.item()} and {other.item()}")
    ours.model.train()
    theirs.model.train()


def make_model(cls, fusion: str, n_items: int, file: Path):
    options = {"fusion": fusion, "text_features_file": str(file)}
    config = Config("HSTUText", "musical_instruments", config_dict=options)
    tokens = np.array(["[PAD]", *map(str, range(1, n_items))])
    dataset = SimpleNamespace(
        num=lambda _: n_items, field2id_token={"item_id": tokens}, iid_field="item_id"
    )
    torch.manual_seed(0)
    return cls(config, dataset)


def text_file(n_items: int, width: int) -> Path:
    path = Path(f"step-{n_items}-{width}.safetensors")
    vectors = np.random.default_rng(0).normal(size=(n_items - 1, width)).astype(np.float32)
    write_text_features(path, {str(i): "" for i in range(1, n_items)}, vectors, {})
    return path


def histories(n_items: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """128 users of 1 to 50 events, 8 on average: the shape of Amazon's 5-core files."""
    lengths = (1 + torch.empty(BATCH).exponential_(1 / 7, generator=generator)).long().clamp(1, 50)
    inside = torch.arange(50) < lengths.unsqueeze(1)
    items = torch.randint(1, n_items, (BATCH, 50), generator=generator) * inside
    times = torch.randint(0, 10**11, (BATCH, 50), generator=generator).sort(1).values * inside
    return {
        "item_id_list": items,
        "timestamp_list": times,
        "item_length": lengths,
        "item_id": torch.randint(1, n_items, (BATCH,), generator=generator),
        "timestamp": torch.full((BATCH,), 2 * 10**11),
    }


if __name__ == "__main__":
    main()
