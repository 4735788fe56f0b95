"""How a step, an evaluation and memory grow with items, history and batch; a table and a plot.

    python benchmarks/growth.py [--sweeps items,history,batch] [--threads 1] [--out growth]

A process a point: processor seconds of the best of a few steps, of scoring and ranking 256 users,
and peak memory above the imports. Where 256 users are too many for one call, the seconds of fewer
are multiplied; the vectors of the items are made in that call. Killed, the same command goes on
with the missing points; a folder holds points of one number of threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from million import optimizer_of
from own_process import in_own_process
from peak import peak_mib
from step import histories, make_model, train_step

from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.reports.text_tables import markdown_table
from recbole_hstu.support.files.whole_file import write_whole
from recbole_hstu.support.memory import keep_freed_memory

ITEMS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
MANY_ITEMS = (3_000_000, 10_000_000)  # of `lazy_adamw`
HISTORY = (50, 200, 1_000, 2_000, 4_096, 8_192)
SWEEPS = ("items", "history", "batch")
BATCHES = (32, 64, 128, 256, 512)
BASE = {"items": 24_587, "history": 50, "mean": 8, "batch": 128, "loss_type": "sampled"}


def points() -> list[dict[str, Any]]:
    made = []
    for loss_type in ("sampled", "shared", "full"):
        for items in ITEMS:
            if loss_type != "full" or items <= 100_000:
                made.append(BASE | {"sweep": "items", "items": items, "loss_type": loss_type})
    for items in (*ITEMS, *MANY_ITEMS):
        lazy = {"sweep": "items", "items": items, "loss_type": "shared", "learner": "lazy_adamw"}
        made.append(BASE | lazy)
    for again in (False, True):
        for history in HISTORY:  # 8,192 events in all, every history as long as it may be
            rows = max(1, 8_192 // history)
            made.append(
                BASE
                | {"sweep": "history", "history": history, "mean": 10**6, "batch": rows}
                | {"loss_type": "shared", "activation_checkpointing": again}
            )
    made += [BASE | {"sweep": "batch", "batch": batch} for batch in BATCHES]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", default=",".join(SWEEPS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("growth"))
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not set(args.sweeps.split(",")) <= set(SWEEPS):
        raise SystemExit(f"--sweeps={args.sweeps}: there are {', '.join(SWEEPS)}")
    if args.point:
        torch.set_num_threads(args.threads)
        sys.stdout.write("\n" + json.dumps(measure(args.point)))
        return
    file = args.out / "points.json"
    found = json.loads(file.read_text()) if file.exists() else []
    for threads in {entry.get("threads") for entry in found} - {args.threads}:
        raise SystemExit(
            f"{file}: has points of --threads={threads}; name another folder with --out"
        )
    known = [entry["point"] for entry in found]
    for point in points():
        if point["sweep"] not in args.sweeps.split(",") or point in known:
            continue
        cost = in_own_process(f"--threads={args.threads}", f"--point={json.dumps(point)}")
        found.append({"point": point, "threads": args.threads, **cost})
        write_whole(file, json.dumps(found, indent=1))
    table(found, args.out / "table.md")
    plot(found, args.out / "growth")


def measure(point: dict[str, Any]) -> dict[str, float]:
    before = peak_mib()
    keep_freed_memory()
    keys = ("loss_type", "activation_checkpointing", "learner")
    options = {key: point[key] for key in keys if key in point}
    model = make_model(HSTU, point["items"], MAX_ITEM_LIST_LENGTH=point["history"], **options)
    optimizer = optimizer_of(model, point.get("learner", "adamw"))
    sizes = {"longest": point["history"], "mean": point["mean"]}
    batch = histories(point["items"], rows=point["batch"], **sizes)
    seconds: list[float] = []
    while len(seconds) < 4 and sum(seconds) < 10:
        started = time.process_time()
        train_step(model.calculate_loss, optimizer, batch)
        seconds.append(time.process_time() - started)
    peak = peak_mib() - before
    tokens = int(batch["item_length"].sum())
    cost = {"step": min(seconds), "tokens": tokens, "MiB": peak}
    # Many items are ranked in blocks: `million.py`.
    return cost if "learner" in point else cost | {"evaluation": evaluate(model, point)}


@torch.no_grad()
def evaluate(model: HSTU, point: dict[str, Any]) -> float:
    """Seconds to score and rank 256 users, in rows as long as the point's."""
    model.eval()
    rows = min(256, max(1, 8_192 // point["history"]), max(1, (1 << 26) // point["items"]))
    sizes = {"longest": point["history"], "mean": point["mean"]}
    batch = histories(point["items"], rows=rows, **sizes)
    started = time.process_time()
    target_ranks(model.full_sort_predict(batch), batch["item_id"])
    return (time.process_time() - started) * 256 / rows


def curve_of(point: dict[str, Any]) -> str:
    """The loss, and what else is not the default."""
    again = ", activations again" if point.get("activation_checkpointing") else ""
    return point["loss_type"] + again + (f", {point['learner']}" if "learner" in point else "")


def table(found: list[dict[str, Any]], path: Path) -> None:
    names = ["sweep", "loss", "items", "history", "rows", "events", "step, s", "MiB"]
    rows = []
    for entry in found:
        point = entry["point"]
        row = [point["sweep"], curve_of(point), f"{point['items']:,}"]
        row += [f"{point['history']:,}", str(point["batch"]), f"{entry['tokens']:,}"]
        row += [f"{entry['step']:.3f}", f"{entry['MiB']:,.0f}"]
        rows.append([*row, f"{entry['evaluation']:.2f}" if "evaluation" in entry else ""])
    text = markdown_table([*names, "256 users, s"], rows)
    write_whole(path, text)
    sys.stdout.write(text)


def plot(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    from recbole_hstu.reports.plots import COLOURS, DASHES, MARKERS

    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), constrained_layout=True)
    for column, sweep in enumerate(SWEEPS):
        curves: dict[str, list[dict[str, Any]]] = {}
        for entry in found:
            if entry["point"]["sweep"] == sweep:
                curves.setdefault(curve_of(entry["point"]), []).append(entry)
        for row, (key, words) in enumerate((("step", "step, s"), ("MiB", "peak memory, MiB"))):
            panel = axes[row, column]
            for place, (label, entries) in enumerate(curves.items()):
                style = {"color": COLOURS[place], "marker": MARKERS[place], "label": label}
                x = [entry["point"][sweep] for entry in entries]
                panel.loglog(x, [e[key] for e in entries], linestyle=DASHES[place], **style)
            panel.set(xlabel=sweep, ylabel=words)
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter("{x:,.10g}")
                axis.set_minor_formatter("")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            if sweep == "batch":
                panel.set_xticks(BATCHES)
            panel.grid(alpha=0.25)
            bottom, top = panel.get_ylim()
            panel.set_ylim(bottom, top * (top / bottom) ** 0.3)  # room for the legend
            panel.legend(frameon=False, loc="upper left")
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=110)


if __name__ == "__main__":
    main()
