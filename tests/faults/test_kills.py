"""kill -9 at random moments, twenty times: the next start goes on, and the end is the same."""

import csv
import random
import sys
from pathlib import Path

import pytest
import torch
from embeddings_server import config, sentences
from killing import Victims, moment
from small_data import small_options
from text_files import texts_of, write_items

from recbole_hstu.records.run_record import read_record, read_records
from recbole_hstu.training import checkpoint

KILLS = 20
pytestmark = pytest.mark.slow


TRAINING = """
import torch
torch.set_num_threads(1)
import recbole_hstu.studies.compare
from recbole_hstu.studies.compare import compare_models
import recbole_hstu.model.hstu, recbole_hstu.quick_start
"""


def outcome(folder):
    """All that a study leaves behind but what a clock decides."""
    root = Path(folder)
    with (root / "results/table.csv").open() as file:
        rows = [
            {k: v for k, v in r.items() if k != "training_seconds"} for r in csv.DictReader(file)
        ]
    states = [checkpoint.load_checkpoint(f) for f in sorted((root / "saved").glob("*.pth"))]
    losses = [[e.train_loss for e in record.history] for record in read_records(root / "results")]
    return rows, losses, [(s["epoch"], s["state_dict"]) for s in states]


def assert_same(one, other):
    assert one[:2] == other[:2]
    assert [epoch for epoch, _ in one[2]] == [epoch for epoch, _ in other[2]]
    for (_, first), (_, second) in zip(one[2], other[2], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def job():
    options = small_options(epochs=40, stopping_step=100, seeds=1)
    return f"""
folders = {{"results_dir": f"{{word}}/results", "checkpoint_dir": f"{{word}}/saved"}}
assert not compare_models(["HSTU"], "toy", (), {{**{options!r}, **folders}})[1]
"""


def test_training(toy):
    moments, kills, rounds, epochs = random.Random(7), 0, 0, []
    with Victims(TRAINING, job()) as victims:
        assert not victims.run("whole")
        expected = outcome("whole")
        while kills < KILLS:
            rounds += 1
            folder = Path(f"round{rounds}")

            states = set()

            def done(folder=folder, states=states):
                states |= {file.stat().st_mtime_ns for file in folder.glob("saved/*.last.pth")}
                return len(states)

            while victims.run(folder.name, kills < KILLS and moment(moments, done, 8)):
                kills += 1
                epochs.append(max(map(epoch_of, folder.glob("saved/*.last.pth")), default=0))
                for file in folder.glob("saved/*.pth"):  # whole, each time
                    checkpoint.load_checkpoint(file)
                for file in folder.glob("results/*.run.json"):
                    read_record(file)
            assert_same(outcome(folder), expected)
            assert not list(folder.glob("saved/.*.last.pth.*.part"))
    sys.stdout.write(f"training: {kills} kills in {rounds} studies of 40 epochs, at {epochs}\n")
    assert len(set(epochs)) > 5  # early and late


def epoch_of(file):
    return checkpoint.load_checkpoint(file)["epoch"] + 1


ENCODING = """
import os
import openai
from recbole_hstu.encoders import ensure_text_features
"""


def test_encoding(server, tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(200))
    settings = config(server, text_batch_size=4)
    server.pause = 0.01
    job = f"""
os.environ["RECBOLE_HSTU_CACHE"] = f"{{word}}/cache"
ensure_text_features("toy", {str(folder)!r}, {settings!r}, output_folder=word)
"""
    moments, kills, rounds, twice = random.Random(7), 0, 0, 0
    with Victims(ENCODING, job) as victims:
        assert not victims.run("whole")
        (expected,) = Path("whole").glob("*.safetensors")
        while kills < KILLS:
            rounds += 1
            server.paid.clear()
            file, here = Path(f"round{rounds}") / expected.name, 0

            def done():
                return len(server.paid)

            while victims.run(f"round{rounds}", kills < KILLS and moment(moments, done, 40)):
                kills, here = kills + 1, here + 1
                assert not file.exists() or file.read_bytes() == expected.read_bytes()
            assert file.read_bytes() == expected.read_bytes()
            assert set(server.paid) == set(sentences(200))
            twice += len(server.paid) - 200
            assert len(server.paid) - 200 <= 4 * here  # at most the batch under way
    sys.stdout.write(
        f"encoding: {kills} kills in {rounds} files of 200 texts, {twice} texts paid twice\n"
    )
