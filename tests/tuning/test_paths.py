"""A search that is given paths as `pathlib` has them."""

from pathlib import Path
from types import SimpleNamespace

import yaml
from small_data import random_rows, small_options, write_inter
from small_searches import GRID

from recbole_hstu.cli import main
from recbole_hstu.records.run_record import read_record
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.tuning import trials_report
from recbole_hstu.tuning.tune import tune


def test_the_best_options_are_a_file_that_runs():
    data = write_inter(random_rows(), folder="my data")
    Path("space.yaml").write_text(GRID)
    Path("more.yaml").write_text("weight_decay: 0.01\n")
    options = {k: v for k, v in small_options(epochs=1).items() if k != "n_layers"}
    paths = {
        "params_file": Path("space.yaml"),
        "results_dir": Path("my search"),
        "data_path": data,
    }
    text, failed = tune("HSTU", "toy", [Path("more.yaml")], {**options, **paths, "max_trials": 2})
    assert not failed, text
    best = yaml.safe_load(Path("my search/best.yaml").read_text())
    assert best["data_path"] == "my data"
    assert best["weight_decay"] == 0.01
    assert best["topk"] == [5]
    line = Path("my search/best.yaml").read_text().splitlines()[1]
    assert line == f"# {command('run')} '--config_files=my search/best.yaml'"
    assert main(["run", "--config_files=my search/best.yaml"]) == 0
    records = [read_record(path) for path in Path("log/HSTU").glob("*.run.json")]
    assert len(records) == 3  # two trials and this one
    assert {record.config["weight_decay"] for record in records} == {0.01}


def test_the_best_options_name_the_text_vectors_that_were_searched_with(monkeypatch):
    monkeypatch.setattr(trials_report, "params_of", lambda *_: {"learning_rate": 0.1})
    options = {"text_features_file": "mine.safetensors", "data_path": "data", "device": "cpu"}
    plan = SimpleNamespace(model="HSTUText", dataset="toy", config_files=(), options=options)
    search = SimpleNamespace(plan=plan, folder=Path("searched"))
    best = yaml.safe_load(trials_report._best(search, None, "1 trial"))
    kept = {"data_path": "data", "learning_rate": 0.1, "text_features_file": "mine.safetensors"}
    assert best == {"model": "HSTUText", "dataset": "toy", **kept}
