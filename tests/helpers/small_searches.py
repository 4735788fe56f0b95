"""Searches of seconds, and what they leave."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from small_data import small_options

from recbole_hstu.cli import main

FOLDER = Path("results/tune-HSTU-toy")


GRID = "learning_rate: {choice: [1e-3, 1e-2]}\nn_layers: {int: [1, 2]}\n"


WIDE = "learning_rate: {loguniform: [1e-4, 1e-1]}\nhidden_dropout_prob: {uniform: [0, 0.5]}\n"


def line(space=GRID, model="HSTU", **options):
    Path("space.yaml").write_text(space)
    given = small_options(params_file="space.yaml") | options
    varied = yaml.safe_load(space) if ":" in space else {}
    return ["tune", f"--model={model}", "--dataset=toy"] + [
        f"--{key}={value}" for key, value in given.items() if key not in varied
    ]


def tune(space=GRID, **options):
    return main(line(space, **options))


def rows(folder=FOLDER):
    with (Path(folder) / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def start(*more, **options):
    """The command in a process of its own, which finds the models of the tests, too."""
    command = [sys.executable, "-m", "recbole_hstu.cli", *line(WIDE, **options), *more]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with Path("said.txt").open("a") as said:
        return subprocess.Popen(command, env=environment, stderr=said, text=True)


def wait_for(pattern, process):
    wait_until(lambda: list(FOLDER.glob(pattern)), process)


def wait_until(happened, process):
    deadline = time.time() + 400
    while not happened():
        assert process.poll() is None, Path("said.txt").read_text()
        assert time.time() < deadline, Path("said.txt").read_text()
        time.sleep(0.01)
