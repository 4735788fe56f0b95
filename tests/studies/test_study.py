"""Studies: what is run, what is run again, and what a table says after a kill or a failure."""

import csv
import itertools
import logging
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from small_data import random_rows, small_options, write_inter
from waiting import until

from recbole_hstu.cli import main
from recbole_hstu.config.config import Config
from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.quick_start import run
from recbole_hstu.records.rank_file import read_rank_file
from recbole_hstu.records.run_record import read_records
from recbole_hstu.studies import study as study_module
from recbole_hstu.studies.compare import compare_models
from recbole_hstu.studies.plan import named_models, plan_runs
from recbole_hstu.studies.run_identity import changed_options, run_identity
from recbole_hstu.studies.side_by_side import gpu_of_each, on_gpu
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.errors import InputError
from recbole_hstu.tuning import tune as tuning

FOLDER = Path("results/toy-recbole")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def options(**more):
    shared = small_options("SASRec", topk=[5, 10])
    return {**shared, **more}


def study(models=("Pop", "HSTU"), **more):
    return compare_models(models, "toy", (), options(**more))


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("recbole_hstu.studies")]


def rows(folder=FOLDER):
    """The table without what a clock decides."""
    with (Path(folder) / "table.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k != "training_seconds"}
            for row in csv.DictReader(file)
        ]


def test_seeds_enter_one_row_and_finished_runs_stay(toy, caplog):
    text, failed = study(seeds="1,2", baseline="Pop")
    assert not failed
    assert "relative gain over Pop" in text
    assert "best baseline on the test (Pop): paired t-test" in " ".join(text.split())
    records = read_records(FOLDER)
    assert [(r.label, r.seed) for r in records] == [
        ("HSTU", 1),
        ("HSTU", 2),
        ("Pop", 1),
        ("Pop", 2),
    ]
    for record in records:
        ranks = read_rank_file(FOLDER / record.rank_file)
        assert mean_metrics(ranks.ranks, ["hit@5", "mrr"]) == pytest.approx(
            {name: record.metrics[name] for name in ("hit@5", "mrr")}, abs=1e-6
        )
    before = {p: p.stat().st_mtime_ns for p in FOLDER.glob("*.run.json")}
    logs = len(list(Path("log").rglob("*.log")))
    caplog.clear()
    again, _ = study(seeds=[1, 2], baseline="Pop", show_progress=False, checkpoint_dir="elsewhere")
    assert again == text
    assert before == {p: p.stat().st_mtime_ns for p in FOLDER.glob("*.run.json")}
    assert logs == len(list(Path("log").rglob("*.log")))
    assert sum("finished before" in line for line in said(caplog)) == 4
    study(seeds="3")
    assert len(read_records(FOLDER)) == 6


def test_a_finished_run_whose_ranks_are_gone_runs_again(toy, caplog):
    study(["Pop"], seeds=1)
    (ranks,) = FOLDER.glob("*.ranks.npz")
    ranks.unlink()
    study(["Pop"], seeds=1)
    assert ranks.exists()


def test_a_changed_setting_runs_again_and_says_so(toy, caplog):
    study(seeds=1)
    caplog.clear()
    study(seeds=1, num_negatives=4)
    lines = said(caplog)
    assert any(
        "HSTU, seed 1: run again, its settings changed: num_negatives 512 -> 4" in x for x in lines
    )
    (kept,) = read_records(FOLDER / "before")
    assert kept.config["num_negatives"] == 512
    assert read_rank_file(FOLDER / "before" / kept.rank_file).ranks.size == 40
    assert len(read_records(FOLDER)) == 2
    assert any("Pop, seed 1: finished before" in line for line in lines)
    assert "--num_negatives is no option of Pop" in lines


def test_fewer_models_say_how_to_get_the_others_back(toy, caplog):
    study(("Pop", "BPR"), seeds=1)
    caplog.clear()
    one = next(FOLDER.glob("BPR*.run.json"))
    one.with_name("of another kind.run.json").write_bytes(one.read_bytes())
    text, _ = study(("Pop",), seeds=1)
    assert "BPR" not in text
    said_so = f"{FOLDER} also holds runs of BPR (seed1); {command('report')} {FOLDER}"
    assert any(line.startswith(said_so) for line in said(caplog))
    assert len(read_records(FOLDER)) == 3


def test_ctrl_c_in_a_study_says_that_the_same_command_goes_on(toy, caplog, monkeypatch):
    steps = itertools.count()
    honest = HSTU.calculate_loss

    def interrupted(self, interaction):
        if next(steps) == 1:  # 40 users are a batch: in the second epoch
            signal.raise_signal(signal.SIGINT)
        return honest(self, interaction)

    monkeypatch.setattr(HSTU, "calculate_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(("HSTU", "Pop"), seeds=1)
    assert "interrupted in epoch 2; the same command again goes on" in caplog.text
    assert "--resume" not in caplog.text
    caplog.clear()
    study(("HSTU", "Pop"), seeds=1)
    assert any("HSTU, seed 1: goes on from saved/HSTU-toy" in line for line in said(caplog))


def test_changed_data_run_again(toy, caplog):
    study(("Pop",), seeds=1)
    write_inter(random_rows(n_users=41))
    caplog.clear()
    study(("Pop",), seeds=1)
    assert any("its settings changed: data_hash" in line for line in said(caplog))


def test_options_of_files_in_a_comparison(toy, caplog):
    Path("best.yaml").write_text("model: HSTU\nlearning_rate: 0.01\n")
    compare_models(["HSTU", "Pop"], "toy", ["best.yaml"], options())
    assert "best.yaml is of HSTU, and its options go to Pop, too" in caplog.text
    Path("study.yaml").write_text("seeds: 1,2\n")
    with pytest.raises(InputError, match=r"study.yaml: seeds: .* as in --seeds=1,2"):
        compare_models(["HSTU"], "toy", ["study.yaml"], options())
    Path("narrow.yaml").write_text("qk_size: 8\n")
    with pytest.raises(InputError, match=r"SASRec: narrow.yaml: unknown option 'qk_size'.*rows"):
        compare_models(["HSTU", "SASRec"], "toy", ["narrow.yaml"], options())


OWN = "from recbole_hstu.model.pop import Pop\n\n\nclass Mine(Pop):\n    pass\n"


def test_a_model_whose_code_changed_runs_again(toy, caplog, monkeypatch):
    monkeypatch.syspath_prepend(".")
    Path("of_mine.py").write_text(OWN)
    study(("of_mine:Mine",), seeds=1)
    caplog.clear()
    study(("of_mine:Mine",), seeds=1)
    assert any("Mine, seed 1: finished before" in line for line in said(caplog))
    Path("of_mine.py").write_text(f"{OWN}    # better\n")
    study(("of_mine:Mine",), seeds=1)  # the class in this process is the one before
    assert not any("its settings changed" in line for line in said(caplog))
    del sys.modules["of_mine"]
    study(("of_mine:Mine",), seeds=1)
    assert any("its settings changed: code_hash" in line for line in said(caplog))


def test_a_failed_run_has_its_row_and_is_tried_again(toy, caplog):
    text, failed = study(("SASRec", "Pop"), seeds=1, learning_rate=1e30, train_batch_size=16)
    assert failed
    assert "failed (seed 1): InputError: the training loss is NaN" in " ".join(text.split())
    assert rows()[1]["model"] == "Pop"
    assert float(rows()[1]["hit@5"]) >= 0
    assert not list(FOLDER.glob("*.started.json"))
    caplog.clear()
    _, failed = study(("SASRec", "Pop"), seeds=1, train_batch_size=16)
    assert not failed
    assert any("SASRec, seed 1: failed before (InputError" in line for line in said(caplog))


COMPARE = """\
SASRec:
HSTU (narrow): {model: HSTU, options: {hidden_size: 8}}
HSTU: {options: {num_negatives: 4}, options_file: best.yaml}
HSTU (searched): {options_file: best.yaml}
"""
BEST = "model: HSTU\ndataset: another\nnum_negatives: 2\ntemperature: 0.1\nepochs: 9\n"


def test_a_file_of_variants(toy):
    Path("compare.yaml").write_text(COMPARE)
    Path("best.yaml").write_text(BEST)
    _, failed = compare_models([], "toy", (), options(compare="compare.yaml", num_negatives=8))
    assert not failed
    assert [row["model"] for row in rows()] == [
        "SASRec",
        "HSTU (narrow)",
        "HSTU",
        "HSTU (searched)",
    ]
    configs = {r.label: r.config for r in read_records(FOLDER)}
    assert configs["HSTU (narrow)"]["hidden_size"] == 8
    assert configs["HSTU (narrow)"]["num_negatives"] == 8
    assert configs["HSTU"]["num_negatives"] == 4
    # what a search chose stands under the options that all share
    assert configs["HSTU"]["temperature"] == 0.1
    assert configs["HSTU"]["epochs"] == options()["epochs"]
    assert configs["HSTU (searched)"]["model"] == "HSTU"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("HSTU: {hidden_size: 8}", "expected {model: NAME, options: {key: value}, "),
        ("", "names no model"),
        ("HSTU: {options: {topk: [3]}}\nPop:\n", "would not be judged alike: topk"),
        ("HSTU: {options: {hidden: 8}}\nPop:\n", "unknown option 'hidden'"),
        ("HTSU:\nPop:\n", "^compare.yaml: HTSU: HTSU: no such model; did you mean"),
        ("A: {model: HTSU}\nPop:\n", "^compare.yaml: A: HTSU: no such model"),
        ("A: {model: }\nPop:\n", "^compare.yaml: A: model: expected a name, found None"),
        ("A: {model: [HSTU, Pop]}\nPop:\n", r"^compare.yaml: A: model: expected a name, found \["),
        ("HSTU: {options_file: }\nPop:\n", "^compare.yaml: HSTU: options_file: expected a name"),
        ("HSTU: {options_file: [a]}\n", "^compare.yaml: HSTU: options_file: expected a name"),
        ("HSTU: {options_file: best.yaml}\n", "^compare.yaml: HSTU: best.yaml: cannot be read"),
        ("HSTU: {options_file: empty.yaml}\n", "^compare.yaml: HSTU: empty.yaml holds no options"),
        ("HSTU: {options_file: bare.yaml}\n", "^compare.yaml: HSTU: bare.yaml holds no options"),
        ("HSTU: {options: {n_layers: 0}}\nPop:\n", "^compare.yaml: HSTU: n_layers: 0 must be"),
        ("HSTU: {options: []}\nPop:\n", "^compare.yaml: HSTU: expected {model"),
        ('"": {model: HSTU}\nHSTU: {model: Pop}\n', "^compare.yaml: '': a row has an empty label"),
        ("Pop: {options_file: of_hstu.yaml}\nBPR:\n", "is of HSTU; add model: Pop or model: HSTU"),
        ("HSTU: {options: {dataset: other}}\nPop:\n", "dataset is no option of a row"),
        ("HSTU:\n" + "x" * 230 + ": {model: Pop}\n", "make a name of .* characters"),
    ],
)
def test_bad_variants(toy, content, message):
    Path("compare.yaml").write_text(content)
    Path("of_hstu.yaml").write_text(BEST)
    Path("empty.yaml").write_text("")
    Path("bare.yaml").write_text("model: HSTU\ndataset: toy\n")
    with pytest.raises(InputError, match=message):
        compare_models([], "toy", (), options(compare="compare.yaml"))
    assert not Path("results").exists()
    assert not Path("log").exists()


def test_a_fine_tuning_is_of_the_file_that_it_begins_with(toy):
    found = []
    for content in (b"one", b"other"):
        Path("before.pth").write_bytes(content)
        given = {"train_stage": "finetune", "pre_model_path": "before.pth"}
        (planned,) = plan_runs(named_models(["S3Rec"]), "toy", (), given, None)
        found.append(run_identity(planned)["data_hash"])
    assert found[0] != found[1]


def test_what_all_rows_share_is_no_fault_of_a_row(toy):
    Path("compare.yaml").write_text("HSTU: {options: {n_layers: 1}}\nPop:\n")
    with pytest.raises(InputError, match=r"^topk: "):
        compare_models([], "toy", (), options(compare="compare.yaml", topk="five"))


@pytest.mark.parametrize(
    ("models", "more", "message"),
    [
        (["HSTU", "HSTU"], {}, "named twice"),
        ([], {"compare": "alike.yaml"}, "Pop: named twice"),
        (["Pop", "", "HSTU"], {}, "--model=Pop,,HSTU: an empty name beside a comma"),
        (["HSTU", "Pop"], {"seeds": "1,1"}, "different whole numbers"),
        (["HSTU", "Pop"], {"seeds": "one"}, "--seeds=one"),
        (["HSTU", "Pop"], {"baseline": "BPR"}, "unknown baseline BPR"),
        (["HSTU", "Pop"], {"baseline": "Pop,"}, "--baseline=Pop,: an empty name beside a comma"),
        (["HSTU", "Pop"], {"topk": [31]}, "above the number of items"),
        (["HSTU", "Pop"], {"nonsense": 1}, "unknown option 'nonsense'"),
        (["HSTU", "Pop"], {"compare": "x.yaml"}, "leave out --model"),
        (["HSTU", "Pop"], {"seeds": "1,2", "seed": 3}, "seed=3 and --seeds: give one of them"),
        (["HSTU", "Pop"], {"user_segments": [9, 3]}, "user_segments: .*two rising numbers"),
    ],
)
def test_bad_studies(toy, models, more, message):
    Path("alike.yaml").write_text('" Pop ": {model: Pop}\nPop:\n')
    with pytest.raises(InputError, match=message):
        compare_models(models, "toy", (), options(**more))
    assert not Path("results").exists()


def test_the_folder_of_another_command(toy):
    FOLDER.mkdir(parents=True)
    with (
        FileLock(FOLDER / ".lock"),
        pytest.raises(InputError, match="another command is at work here"),
    ):
        study()
    assert not study()[1]


def test_results_in_the_way(toy):
    Path("results").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written .*--results_dir"):
        study()


# The command, killed as soon as HSTU has written its third checkpoint.
KILLED = """
import os, signal, sys
from recbole_hstu.cli import main
from recbole_hstu.config.config import Config
from recbole_hstu.training.trainer import PlainTrainer

write = PlainTrainer._write

def killed(self, file, epoch):
    write(self, file, epoch)
    if "HSTU" in str(file) and epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

PlainTrainer._write = killed
main(sys.argv[1:])
"""


def test_killed_and_started_again_ends_with_the_same_table(toy, caplog):
    more = {"seeds": 1, "epochs": 5, "stopping_step": 100, "hidden_size": 16, "n_layers": 1}
    line = ["run", "--model=SASRec,HSTU,Pop", "--dataset=toy"]
    line += [f"--{key}={value}" for key, value in options(**more, n_heads=2).items()]
    command = [sys.executable, "-c", KILLED, *line]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == -9
    assert [r.label for r in read_records(FOLDER)] == ["SASRec"]
    assert not (FOLDER / "table.csv").exists()
    caplog.set_level(logging.INFO)
    assert main(line) == 0
    lines = said(caplog)
    assert any("SASRec, seed 1: finished before" in line for line in lines)
    assert any("HSTU, seed 1: goes on from saved/HSTU-toy" in line for line in lines)
    assert "goes on with epoch" in caplog.text
    killed = rows()
    assert main([*line, "--results_dir=whole", "--checkpoint_dir=other"]) == 0
    assert killed == rows("whole")
    assert killed[1]["epochs"] == "5.0"


@pytest.mark.slow
def test_runs_side_by_side_and_one_of_the_processes_is_killed(toy, caplog):
    """The table is that of one process: DGCF, which fails on so few items, has its row in both."""
    more = {"seeds": 1, "epochs": 4, "stopping_step": 100, "hidden_size": 16, "n_layers": 1}
    models = ["held_model:Held", "SASRec", "DGCF"]
    whole = {"results_dir": "whole", "checkpoint_dir": "whole"}
    assert compare_models(models, "toy", (), options(**more, **whole))[1]
    Path("hold-saved").touch()  # every Held waits in its third epoch
    caplog.set_level(logging.INFO)

    def kill_one():
        until(lambda: list(Path("saved").glob("Held-*-1.last.pth")))
        workers = multiprocessing.active_children()
        workers[0].kill()
        workers[0].join()
        Path("hold-saved").unlink()

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    assert compare_models(models, "toy", (), options(**more, jobs=2))[1]
    assert rows() == rows("whole")
    assert [row["epochs"] for row in rows()[:2]] == ["4.0", "4.0"]
    assert "ended with status -9; the others go on" in caplog.text
    assert not list(FOLDER.glob("*.started.json"))


def test_a_class_that_no_other_process_finds(toy):
    class Local(HSTU):
        pass

    with pytest.raises(InputError, match=r"--jobs: the options cannot be handed"):
        compare_models([Local, "Pop"], "toy", (), small_options(jobs=2))


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    for seen, count, expected in (
        (None, 0, [None, None, None]),
        (None, 1, [None, None, None]),
        (None, 2, ["0", "1", "0"]),
        ("3,GPU-5f", 2, ["3", "GPU-5f", "3"]),
        ("7", 1, [None, None, None]),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if seen:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        assert gpu_of_each(3) == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    Config("HSTU", "toy", config_dict=on_gpu({"gpu_id": "3,GPU-5f"}, "GPU-5f"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-5f"


def test_a_plan_that_travels_names_the_gpu_of_its_process(toy, monkeypatch):
    """CUDA counts the GPUs once, when the first configuration asks for them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (planned,) = plan_runs(named_models(["HSTU"]), "toy", (), options(gpu_id="0,1"), None)
    packed = pickle.dumps(replace(planned, options=on_gpu(planned.options, "1")))
    seen = []
    asked = lambda: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]) or False  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_available", asked)
    assert pickle.loads(packed).config["gpu_id"] == "1"
    assert set(seen) == {"1"}


def test_studies_and_searches_hand_each_process_its_gpu(toy, monkeypatch):
    given = {}
    for module, name in ((study_module, "study"), (tuning, "search")):
        monkeypatch.setattr(module, "side_by_side", lambda _, __, a, n=name: given.update({n: a}))
    plan = plan_runs(named_models(["HSTU"]), "toy", (), options(), None)
    study_module._run_side_by_side(plan, FOLDER, 2)
    assert [run.options["gpu_id"] for run in given["study"]("1")[0]] == ["1"]
    Path("space.yaml").write_text("n_layers: {choice: [1, 2]}\n")
    with pytest.raises(InputError, match="2 trials are not finished"):
        tuning.tune("HSTU", "toy", (), options(params_file="space.yaml", max_trials=2, jobs=2))
    (searched,) = given["search"]("1")
    assert searched.options["gpu_id"] == "1"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"jobs": 0}, "--jobs: 0 must be a whole number from 1 on"),
        ({"jobs": 2, "nproc": 2}, "--jobs: each run then has a process and a GPU"),
    ],
)
def test_bad_jobs(toy, more, message):
    with pytest.raises(InputError, match=message):
        study(["HSTU", "SASRec"], **more)


def test_recboles_own_beyond_accuracy_metrics_agree(toy):
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Hit"]
    for model in ("HSTU", "SASRec", "Pop"):
        more = small_options(model, metrics=metrics, valid_metric="Hit@5", mask_seen=True)
        more["topk"] = [10, 5]
        result = run(model, "toy", config_dict=more)
        beyond, theirs = dict(result["record"].beyond), result["test_result"]
        assert (beyond.pop("tie_share") > 0) == (model == "Pop")
        assert beyond == pytest.approx({name: theirs[name] for name in beyond}, abs=1e-6)
        assert len(beyond) == 4
        assert all(name.endswith("@5") for name in beyond)  # the shortest lists are kept


def test_limit_users_is_honest(toy, caplog):
    caplog.set_level(logging.WARNING)
    result = run("Pop", "toy", config_dict=small_options("Pop", limit_users=10))
    assert len(result["ranks"].users) == 10
    assert "limit_users: 10 of 40 users" in caplog.text
    with pytest.raises(InputError, match="limit_users: 0 must be a whole number"):
        run("Pop", "toy", config_dict=small_options("Pop", limit_users=0))


def test_segments_of_a_run(toy):
    result = run("HSTU", "toy", config_dict=small_options(user_segments=[6, 10]))
    record, ranks = result["record"], result["ranks"]
    lengths = ranks.history_length + 1  # a user's events, 5 to 14
    assert lengths.min() == 5
    assert lengths.max() > 9  # longer than the window of 8
    expected = [(lengths <= 6).sum(), ((lengths > 6) & (lengths <= 10)).sum(), (lengths > 10).sum()]
    assert [segment.users for segment in record.segments["users"]] == expected
    assert sum(segment.users for segment in record.segments["items"]) == 40
    assert record.segments["items"][3].users == (ranks.target_count == 0).sum()


def test_an_option_that_an_older_release_did_not_have_counts_if_it_is_set():
    old = {"mask_seen": True}
    assert changed_options(old, old | {"candidates": "all", "train_events": None}) == []
    new = old | {"candidates": "training"}
    assert changed_options(old, new) == ["candidates None -> training"]


def test_a_number_that_records_hold_as_text_is_no_change():
    recorded = {"clip_grad_norm": {"max_norm": 1.0, "norm_type": "inf"}}
    given = {"clip_grad_norm": {"max_norm": 1.0, "norm_type": math.inf}}
    assert changed_options(recorded, given) == changed_options(given, recorded) == []


def test_a_full_disk_is_no_runs_failure(toy, caplog, monkeypatch):
    """The study ends, and the same command goes on where it was."""
    save, saved = torch.save, []

    def until_full(state, stream):
        saved.append(state["epoch"])
        if len(saved) > 3:
            raise OSError(28, "No space left on device")
        save(state, stream)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", until_full)
        with pytest.raises(InputError, match=r"HSTU, seed 1: .*No space left.* goes on"):
            study(["HSTU", "SASRec"], seeds=1, epochs=4)
    assert not list(FOLDER.glob("*.run.json"))
    caplog.clear()
    _, failed = study(["HSTU", "SASRec"], seeds=1, epochs=4)
    assert not failed
    assert any("HSTU, seed 1: goes on from" in line for line in said(caplog))
