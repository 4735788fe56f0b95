"""Two processes against one on MovieLens-100K: same result, and how much faster.

    python benchmarks/devices.py

Two epochs of HSTU without dropout, `ROUNDS` times in turn: one process on one thread, one on two,
two processes on a thread each. Seconds are those of the training in the second epoch, since new
processes prove their shares of the loss in the first.
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
warnings.filterwarnings("ignore", category=FutureWarning)

import torch  # noqa: E402

from recbole_hstu.quick_start import run  # noqa: E402
from recbole_hstu.training.checkpoint import load_checkpoint  # noqa: E402

ROUNDS = 3
OPTIONS = {
    "epochs": 2,
    "MAX_ITEM_LIST_LENGTH": 50,
    "input_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
    "show_progress": False,
    "state": "ERROR",
}
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2)}
WAYS["two processes, a thread each"] = (2, 1)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for _ in range(ROUNDS):
            for way, (nproc, threads) in WAYS.items():
                torch.set_num_threads(threads)
                os.environ["OMP_NUM_THREADS"] = str(threads)  # of further processes
                results[way] = run("HSTU", "ml-100k", config_dict={**OPTIONS, "nproc": nproc})
                first, second = (epoch.seconds for epoch in results[way]["record"].history)
                seconds[way].append(second - first)
        states = {
            way: load_checkpoint(result["checkpoint"])["state_dict"]
            for way, result in results.items()
        }
        os.chdir("/")
    first = next(iter(WAYS))
    for way in WAYS:
        took = statistics.median(seconds[way])
        pairs = [(states[way][name], states[first][name]) for name in states[first]]
        far = max((a - b).abs().max().item() for a, b in pairs)
        metrics = results[way]["test_result"] == results[first]["test_result"]
        ranks = (results[way]["ranks"].ranks == results[first]["ranks"].ranks).mean()
        sys.stdout.write(
            f"{way:30} {took:6.2f} s  {statistics.median(seconds[first]) / took:5.2f} times the "
            f"speed  weights {far:.1e} apart  metrics {'equal' if metrics else 'differ'}  "
            f"{ranks:.2%} of ranks equal\n"
        )


if __name__ == "__main__":
    main()
