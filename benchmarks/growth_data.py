"""How conversion, the prepared set and a start grow with the interactions; a table and a plot.

    python benchmarks/growth_data.py [--sizes 1000000,10000000] [--out growth]

The orders of `orders.py` and the data set of `prepared.py`, a process for every stage. Killed, the
same command goes on with the missing sizes. 100 million need 12 GB of temporary disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from orders import ROOT, convert, make_orders

from recbole_hstu.reports.text_tables import markdown_table
from recbole_hstu.support.files.whole_file import write_whole

SIZES = "1000000,3000000,10000000,30000000,100000000"
STAGES = ("convert", "prepare", "start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("growth"))
    args = parser.parse_args()
    file = args.out / "data.json"
    found = json.loads(file.read_text()) if file.exists() else []
    for size in map(int, args.sizes.split(",")):
        if size not in [entry["interactions"] for entry in found]:
            found.append({"interactions": size, **measure(size)})
            write_whole(file, json.dumps(found, indent=1))
    table(found, args.out / "data.md")
    plot(found, args.out / "data")


def measure(size: int) -> dict[str, dict[str, float]]:
    """Seconds by the clock and of the processor, and GiB at the most, of every stage."""
    with tempfile.TemporaryDirectory() as name:
        orders = Path(name) / "orders.csv"
        make_orders(orders, size)
        run = convert(ROOT, orders)
    stages = {"convert": {"clock": run.clock, "processor": run.processor, "GiB": run.peak}}
    with tempfile.TemporaryDirectory() as name:
        for stage, cost in prepared(Path(name), size).items():
            mapped = cost["shared"] / 1024
            seconds = {"clock": cost["start"], "processor": cost["work"]}
            stages[stage] = seconds | {"GiB": cost["peak"] / 1024, "mapped GiB": mapped}
            stages[stage]["step"] = cost["step"]
    return stages


def prepared(folder: Path, size: int) -> dict[str, dict[str, float]]:
    """What `prepared.py` measures of a set that is made and of one that is there."""
    command = [sys.executable, str(ROOT / "benchmarks" / "prepared.py"), "--json"]
    command += [f"--interactions={size}", f"--folder={folder}", "--stages=prepare,start"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(found: list[dict[str, Any]], path: Path) -> None:
    names = ["interactions", "stage", "clock", "processor", "peak", "of which mapped files"]
    rows = []
    for entry in found:
        for stage in STAGES:
            cost = entry[stage]
            row = [f"{entry['interactions']:,}", stage, f"{cost['clock']:.1f} s"]
            row += [f"{cost['processor']:.1f} s", f"{cost['GiB']:.2f} GiB"]
            row.append(f"{cost['mapped GiB']:.2f} GiB" if "mapped GiB" in cost else "")
            rows.append([*row, f"{1e3 * cost['step']:.0f} ms" if "step" in cost else ""])
    text = markdown_table([*names, "a step"], rows)
    write_whole(path, text)
    sys.stdout.write(text)


def plot(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    from recbole_hstu.reports.plots import COLOURS, DASHES, MARKERS

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    sizes = [entry["interactions"] for entry in found]
    for panel, key, words in zip(
        axes, ("clock", "GiB"), ("seconds by the clock", "peak memory, GiB"), strict=True
    ):
        for place, stage in enumerate(STAGES):
            style = {"color": COLOURS[place], "marker": MARKERS[place], "label": stage}
            values = [entry[stage][key] for entry in found]
            panel.loglog(sizes, values, linestyle=DASHES[place], **style)
        panel.set(xlabel="interactions", ylabel=words)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=110)


if __name__ == "__main__":
    main()
