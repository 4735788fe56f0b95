"""What benchmarks build, at a tiny size, so that a change of the package cannot break it unseen."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from small_data import random_rows, write_inter

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark by its name, imported as its own folder sees it, and forgotten afterwards."""
    before = dict(sys.modules)
    for file in FOLDER.glob("*.py"):  # rooms of the tests have some of these names
        sys.modules.pop(file.stem, None)
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in set(sys.modules) - set(before):
        if (FOLDER / f"{name}.py").exists():
            del sys.modules[name]
    sys.modules.update(before)


def test_a_drawn_recommender_answers(benchmark):
    """Of `serving.py`, and of `service.py` and `approximate.py`, which take it from there."""
    serving = benchmark("serving")
    seconds, size, _ = serving.measure(serving.recommender(30, 5), 5, 2, True, 1)
    assert len(seconds) == 1
    assert size > 0


@pytest.mark.parametrize("learner", ["adamw", "lazy_adamw"])
def test_a_learner_takes_a_step(benchmark, learner):
    """Of `million.py`, and of `growth.py` and `sharded.py`, which take it from there."""
    step, million = benchmark("step"), benchmark("million")
    model = step.make_model(million.HSTU, 60, loss_type="shared", learner=learner)
    before = [weights.clone() for weights in model.parameters()]
    optimizer = million.optimizer_of(model, learner)
    step.train_step(model.calculate_loss, optimizer, step.histories(60, rows=4))
    pairs = zip(before, model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


def test_every_way_of_a_step_is_timed(benchmark, monkeypatch):
    """Of `options.py`; compilation takes longer than a test may, so that way is left out."""
    options = benchmark("options")
    monkeypatch.setattr(options, "ITEMS", 60)
    monkeypatch.setattr(options, "REPEATS", 1)
    monkeypatch.setattr(options, "WAYS", ("float32", "enable_amp", "high"))
    file = options.text_file(60, 8)
    seconds, losses = options.measure("cpu", "sampled", file)
    assert seconds.keys() == losses.keys() == set(options.WAYS)
    assert losses["high"] == pytest.approx(losses["float32"], rel=1e-3)  # the same negatives


@pytest.mark.parametrize(
    ("name", "file", "kept", "words"),
    [
        (
            "losses",
            "full.json",
            {"settings": {"dataset": "ml-1m", "seed": 42}},
            "not of {'dataset'",
        ),
        ("losses", "full.json", {"points": []}, "is of None"),
        ("growth", "points.json", [{"point": {}, "threads": 2}], "has points of --threads=2"),
        ("growth", "points.json", [{"point": {}}], "has points of --threads=None"),
    ],
)
def test_results_of_other_settings_are_refused(benchmark, monkeypatch, name, file, kept, words):
    module = benchmark(name)
    Path(file).write_text(json.dumps(kept))
    monkeypatch.setattr(sys, "argv", [name, "--out=."])
    monkeypatch.setattr(module, "train" if name == "losses" else "points", lambda *_: [])
    with pytest.raises(SystemExit, match=words):
        module.main()
    assert [path.name for path in Path().iterdir()] == [file]


def test_made_up_data_of_another_size_are_made_anew(benchmark, monkeypatch):
    prepared = benchmark("prepared")
    monkeypatch.setattr(prepared, "child", lambda args, stage: {})
    for count in (20, 30, 30):
        monkeypatch.setattr(sys, "argv", ["", "--folder=.", f"--interactions={count}", "--json"])
        prepared.main()
    files = sorted(Path().glob("*/*.inter"))
    assert [len(file.read_text().splitlines()) for file in files] == [21, 31]


def test_recbole_alone_trains_on_every_prefix(benchmark, monkeypatch):
    """Of `epoch.py`: a row for every event but the first and the last two of a user."""
    rows = random_rows(n_items=80)
    write_inter(rows)
    monkeypatch.setattr(sys, "argv", ["epoch.py"])
    epoch = benchmark("epoch")
    args = argparse.Namespace(history=50, dataset="toy", data_path="dataset", device="cpu")
    with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):  # RecBole switches it on
        found = epoch.measure_recbole("GRU4Rec/recbole", args)
    assert found["rows"] == len(rows) - 3 * 40
