"""Curves of HSTU under its losses: training loss and test metrics against epochs and seconds.

    python benchmarks/losses.py --dataset=ml-1m --data_path=FOLDER --loss_types=sampled,full

Under the paper protocol nothing is validated and nothing is chosen: every `--every` epochs the
model is judged on the test set as it stands, and the last epoch counts. Killed, the same command
goes on from the last judged epoch. Writes a table, and plots, to `--out`; a folder holds curves of
one data set, seed and number of users.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from recbole_hstu.quick_start import run
from recbole_hstu.reports.plots import COLOURS, DASHES, MARKERS
from recbole_hstu.reports.text_tables import markdown_table
from recbole_hstu.support.files.whole_file import write_whole

METRICS = ("hit@10", "ndcg@10", "mrr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--loss_types", default="sampled,full")
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--limit_users", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/losses"))
    args = parser.parse_args()
    read_curves(args)
    for name in args.loss_types.split(","):
        train(name, args)
    curves = read_curves(args)
    write_table(curves, args.out / "table.md")
    plot(curves, args.out / "curves")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(args, key) for key in ("dataset", "seed", "limit_users")}


def read_curves(args: argparse.Namespace) -> dict[str, Any]:
    """Every curve of the folder, also those that another process has finished."""
    curves = {file.stem: json.loads(file.read_text()) for file in sorted(args.out.glob("*.json"))}
    for name, curve in curves.items():
        if curve.get("settings") != settings_of(args):
            raise SystemExit(
                f"{args.out}/{name}.json is of {curve.get('settings')}, not of "
                f"{settings_of(args)}; name another folder with --out"
            )
    return curves


def train(loss_type: str, args: argparse.Namespace) -> None:
    """Train to `epochs` in stretches of `every`, each the resumption of the one before."""
    file = args.out / f"{loss_type}.json"
    curve: dict[str, Any] = {"settings": settings_of(args), "points": [], "history": []}
    if file.exists():
        curve = json.loads(file.read_text())
    done = curve["points"][-1]["epoch"] if curve["points"] else 0
    for epochs in [*range(done + args.every, args.epochs, args.every), args.epochs]:
        if epochs <= done:
            break
        options = {
            **{"protocol": "paper", "loss_type": loss_type, "epochs": epochs, "seed": args.seed},
            **{"data_path": args.data_path, "resume": curve.get("last"), "show_progress": False},
            "limit_users": args.limit_users,
        }
        options = {key: value for key, value in options.items() if value is not None}
        result = run("HSTU", args.dataset, config_dict=options)
        record = result["record"]
        point = {"epoch": epochs, "seconds": record.training_seconds}
        curve["points"].append(point | {m: record.metrics[m] for m in METRICS})
        curve["history"] = [[e.epoch, e.seconds, e.train_loss] for e in record.history]
        curve["last"] = str(result["checkpoint"].with_suffix(".last.pth"))
        write_whole(file, json.dumps(curve, indent=1))


def write_table(curves: dict[str, Any], path: Path) -> None:
    rows = [
        [
            name,
            str(point["epoch"]),
            f"{point['seconds']:,.0f}",
            *(f"{point[m]:.4f}" for m in METRICS),
        ]
        for name, curve in curves.items()
        for point in curve["points"]
    ]
    text = markdown_table(["loss_type", "epochs", "training, s", *METRICS], rows)
    write_whole(path, text)
    sys.stdout.write(text)


def plot(curves: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    for place, (name, curve) in enumerate(curves.items()):
        style = {"color": COLOURS[place], "linestyle": DASHES[place], "label": name}
        dots = style | {"marker": MARKERS[place], "markersize": 4}
        epochs, _, losses = zip(*curve["history"], strict=True)
        axes[0].plot(epochs, losses, **style)
        for panel, along in ((axes[1], "epoch"), (axes[2], "seconds")):
            points = curve["points"]
            panel.plot([p[along] for p in points], [p["hit@10"] for p in points], **dots)
    for panel, x, y in zip(
        axes,
        ("epoch", "epoch", "seconds of training"),
        ("training loss (each its own)", "test hit@10", "test hit@10"),
        strict=True,
    ):
        panel.set(xlabel=x, ylabel=y)
        panel.grid(alpha=0.25)
    axes[0].legend(frameon=False)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=120)


if __name__ == "__main__":
    main()
