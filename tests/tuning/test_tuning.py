"""Searches: what a trial is, what is kept, what a kill changes (nothing)."""

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from small_data import random_rows, write_inter
from small_searches import FOLDER, GRID, WIDE, line, rows, start, tune, wait_for, wait_until
from waiting import until

from recbole_hstu.cli import main
from recbole_hstu.quick_start import run
from recbole_hstu.records.run_record import read_record
from recbole_hstu.training.trainer import PlainTrainer
from recbole_hstu.tuning import trials, trials_report
from recbole_hstu.tuning import tune as tuning
from recbole_hstu.tuning.search import Search


def test_exhaustive_and_what_it_leaves(toy, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "plot", trials_report.plot)
        patch.setattr(PlainTrainer, "test", None)  # a trial that is tested would fail
        assert tune(algo="exhaustive", seed=7) == 0
    assert [(r["learning_rate"], r["n_layers"]) for r in rows()] == [
        ("0.001", "1"),
        ("0.001", "2"),
        ("0.01", "1"),
        ("0.01", "2"),
    ]
    assert {r["state"] for r in rows()} == {"finished"}
    records = [read_record(path) for path in Path("log/HSTU").glob("*.run.json")]
    trained = {(r.config["learning_rate"], r.config["n_layers"]) for r in records}
    assert trained == {(0.001, 1), (0.001, 2), (0.01, 1), (0.01, 2)}
    scores = [float(r["ndcg@5"]) for r in rows()]
    assert "4 of 4 trials (4 finished), 8 epochs; best ndcg@5" in capsys.readouterr().out
    # the best options are complete: one file, the same validation score
    options = yaml.safe_load((FOLDER / "best.yaml").read_text())
    again = run(config_file_list=[FOLDER / "best.yaml"])
    assert again["best_valid_score"] == max(scores)
    assert options["seed"] == 7
    assert again["test_result"]
    # RecBole's layout, three lines a trial and none of the test set
    text = (FOLDER / "hyper.result").read_text()
    assert text.startswith("learning_rate:0.001, n_layers:1\nValid result:\nhit@5 : ")
    assert text.count("Test result:\nnot tested\n") == 4
    for name in ("parallel", "importance"):
        assert (FOLDER / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "learning_rate" in (FOLDER / f"{name}.svg").read_text()
    best = f"trial-{scores.index(max(scores)) + 1}"
    assert [path.name for path in (FOLDER / "checkpoints").iterdir()] == [best]


def test_a_search_for_less(toy):
    metric = {"metrics": ["Hit", "AveragePopularity"], "valid_metric": "AveragePopularity@5"}
    assert tune(WIDE, algo="halving", max_trials=4, epochs=3, min_epochs=1, **metric) == 0
    scores = [float(row["averagepopularity@5"]) for row in rows()]
    stopped = [row["state"] == "stopped early" for row in rows()]
    assert stopped == [score == max(scores) for score in scores]
    best = rows()[scores.index(min(scores))]
    chosen = yaml.safe_load((FOLDER / "best.yaml").read_text())
    assert chosen["learning_rate"] == float(best["learning_rate"])


def test_nothing_is_repeated_and_more_trials_go_on(toy, capsys, monkeypatch):
    assert tune(WIDE, algo="random", max_trials=2) == 0
    first = rows()
    table = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(trials, "run", None)
        assert tune(WIDE, algo="random", max_evals=2) == 0  # RecBole's name
    assert capsys.readouterr().out == table
    assert tune(WIDE, algo="random", max_trials=4) == 0
    assert rows()[:2] == first
    assert len({r["learning_rate"] for r in rows()}) == 4
    assert tune(WIDE, algo="random", max_trials=4, results_dir="anew") == 0
    assert rows("anew") == rows()
    assert tune(WIDE, algo="random", max_trials=2, results_dir="other", seed=3) == 0
    assert not {r["learning_rate"] for r in rows("other")} & {r["learning_rate"] for r in rows()}


def test_the_first_trial_may_have_the_models_own_settings(toy, capsys):
    space = "learning_rate: {loguniform: [1e-4, 1e-2]}\nnum_negatives: {choice: [4, 512]}\n"
    assert tune(space, algo="halving", max_trials=3) == 0
    drawn = rows()
    own = {"defaults_first": True, "results_dir": "own"}
    assert tune(space, algo="halving", max_trials=3, **own) == 0
    first, *others = rows("own")
    assert (first["learning_rate"], first["num_negatives"]) == ("0.001", "512")
    assert first["state"] == "finished"  # nothing to be compared with, so halving keeps it
    options = ("learning_rate", "num_negatives")
    assert [[r[o] for o in options] for r in others] == [[r[o] for o in options] for r in drawn[1:]]
    assert tune(space, algo="halving", max_trials=3, results_dir="own") == 2
    assert "other settings (defaults_first" in capsys.readouterr().err
    for wrong, message in (
        ("num_negatives: {choice: [4, 8]}", "begins with the model's own 512, which is not in"),
        ("learning_rate: {uniform: [1e-2, 1e-1]}", "begins with the model's own 0.001"),
    ):
        assert tune(f"{wrong}\n", algo="random", defaults_first=True, results_dir="no") == 2
        assert message in capsys.readouterr().err
    assert tune(algo="exhaustive", defaults_first=True, results_dir="no") == 2
    assert "exhaustive tries every combination" in capsys.readouterr().err


def test_a_failed_trial_has_its_reason_and_the_others_go_on(toy, capsys):
    space = "learning_rate: {choice: [1e30, 1e-3]}\n"
    assert tune(space, algo="exhaustive", train_batch_size=8, item_l2_norm=False) == 0
    failed, finished = rows()
    assert failed["state"] == "failed"
    assert "NaN" in failed["remark"]
    assert finished["state"] == "finished"
    assert "2 of 2 trials (1 finished, 1 failed)" in capsys.readouterr().out
    assert "NaN" in (FOLDER / "trials.md").read_text()


def test_a_reason_of_several_lines_stays_in_its_row(toy, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of\r\nmemory\ron | device\n")

    monkeypatch.setattr(trials, "run", fail)
    assert tune("n_layers: {choice: [1]}\n", algo="exhaustive") == 1
    assert [row["remark"] for row in rows()] == ["RuntimeError: out of memory on | device"]
    shown = (FOLDER / "trials.md").read_text().splitlines()
    assert len(shown) == 5  # headings, rule, the trial, nothing, the summary
    assert shown[2].endswith("| RuntimeError: out of memory on \\| device |")


def test_what_stops_every_trial_is_no_trials_failure(toy, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("recbole_hstu.training.checkpoint.torch.save", full)
        assert tune(algo="exhaustive") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert tune(algo="exhaustive") == 0
    assert [r["state"] for r in rows()] == ["finished"] * 4


def test_a_storage_that_fails_is_no_trials_failure(toy, monkeypatch, capsys):
    def alter(old, new):
        with sqlite3.connect(FOLDER / "trials.db") as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    def lose_and_run(*args, **options):
        alter("trial_intermediate_values", "lost")
        return run(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "run", lose_and_run)
        assert tune(algo="exhaustive") == 2
    said = capsys.readouterr().err
    assert f"error: {FOLDER}/trials.db: (sqlite3.OperationalError) no such table" in said
    assert "Traceback" not in said
    alter("lost", "trial_intermediate_values")
    assert tune(algo="exhaustive") == 0
    assert [r["state"] for r in rows()] == ["finished"] * 4


def test_early_stop(toy, capsys):
    # None of them moves a rank: the first is the best, and none of the others is better.
    space = "learning_rate: {choice: [1e-13, 1e-12, 1e-11, 1e-10, 1e-9]}\n"
    assert tune(space, algo="exhaustive", early_stop=2) == 0
    assert "3 of 5 trials (3 finished)" in capsys.readouterr().out


def test_fewer_trials_asked_for_than_there_are():
    """All of them are looked at, whatever is asked for later."""
    finished = optuna.trial.create_trial(value=0.1, user_attrs={"epochs": 2})
    plan = SimpleNamespace(max_trials=2, metric="mrr", folder="f", algo="random")
    search = SimpleNamespace(plan=plan, trials=lambda: [finished] * 5)
    said = trials_report._summary(search, search.trials(), finished)
    assert said.startswith("5 trials (5 finished; 2 asked for, all count), 10 epochs; best")
    assert tuning._heading(search) == "f: random, 5 trials finished before (2 asked for)"


def test_another_search_is_refused(toy, capsys):
    assert tune(algo="exhaustive", epochs=1) == 0
    for changed, message in (
        ({"epochs": 2}, "holds a search with other settings (epochs 1 -> 2)"),
        ({"algo": "random"}, "algo exhaustive -> random"),
        ({"study_name": "mine"}, "holds the search HSTU-toy in trials.db"),
        ({"results_dir": "b", "storage": f"sqlite:///{FOLDER}/trials.db"}, "in another folder"),
    ):
        assert tune(**{"algo": "exhaustive", "epochs": 1} | changed) == 2
        assert message in capsys.readouterr().err
    write_inter(random_rows(n_users=41))
    assert tune(algo="exhaustive", epochs=1) == 2
    assert "data_hash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (GRID, {"protocol": "paper"}, "--protocol=paper: nothing is validated"),
        (GRID, {"eval_step": 0}, "--eval_step=0: nothing is validated"),
        (GRID, {"algo": "grid"}, "--algo=grid: known are bayes, random, halving, exhaustive"),
        (WIDE, {"algo": "exhaustive"}, "space.yaml: learning_rate: --algo=exhaustive needs finite"),
        ("layers: {int: [1, 2]}", {}, "space.yaml: layers: unknown option 'layers'"),
        ("n_layers: {int: [0, 2]}", {}, "space.yaml: n_layers: n_layers: 0 must be a whole"),
        ("topk: {choice: [[5], [10]]}", {}, "space.yaml: topk: decides how trials are judged"),
        ("MAX_ITEM_LIST_LENGTH: {int: [5, 9]}", {"mask_seen": True}, "decides how trials are"),
        ("n_layers int 0,2", {}, "space.yaml, line 1: expected `NAME KIND VALUES`"),
        (GRID, {"max_trials": 0}, "--max_trials: 0 must be a whole number from 1 on"),
        (GRID, {"jobs": "two"}, "--jobs: 'two' must be a whole number"),
        (GRID, {"jobs": None}, "--jobs: None must be a whole number"),
        (GRID, {"defaults_first": 1}, "--defaults_first: 1 must be True or False"),
        (GRID, {"reduction_factor": 1}, "--reduction_factor: 1 must be a whole number from 2"),
        (GRID, {"params_file": "no.yaml"}, "--params_file=no.yaml: no such file"),
        (GRID, {"checkpoint_dir": "x"}, "--checkpoint_dir: a search keeps checkpoints of its own"),
        (GRID, {"nproc": 2}, "--nproc: every trial trains in one process; use --jobs"),
        (GRID, {"nonsense": 1}, "unknown option 'nonsense'"),
        (GRID, {"max_trials": 2, "max_evals": 2}, "--max_evals and --max_trials mean the same"),
    ],
)
def test_bad_input(toy, capsys, space, options, message):
    assert tune(space, **options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("results").exists()
    assert not Path("log").exists()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "expected a URL of SQLAlchemy"),
        ("cobol://a/b", "cobol; expected a URL of SQLAlchemy"),
        ("mysql://a:b/c", "'b'; expected a URL of SQLAlchemy"),
        ("mysql://a/b", "No module named 'MySQLdb'; install the driver"),
        ("sqlite:////no/such/folder/a.db", "unable to open database file; mend it"),
    ],
)
def test_bad_storage(toy, capsys, storage, message):
    assert tune(storage=storage) == 2
    said = capsys.readouterr().err
    assert "error: --storage: " in said and message in said and said.count("\n") == 1
    assert not Path("results").exists()


def test_storage_of_another_optuna(toy, capsys):
    assert tune(algo="exhaustive", epochs=1, max_trials=1) == 0
    with sqlite3.connect(FOLDER / "trials.db") as database:
        database.execute("UPDATE version_info SET schema_version = 1, library_version = '0.1'")
        database.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    assert tune(algo="exhaustive", epochs=1, max_trials=2) == 2
    said = capsys.readouterr().err
    assert f"error: {FOLDER}/trials.db: The runtime optuna version" in said


def test_a_refused_search_writes_into_no_other_storage(toy, capsys):
    assert tune(algo="exhaustive", epochs=1, max_trials=1) == 0
    assert tune(algo="exhaustive", epochs=1, max_trials=1, storage="sqlite:///other.db") == 2
    assert "holds the search HSTU-toy in trials.db" in capsys.readouterr().err
    assert not Path("other.db").exists()


def test_the_folder_may_have_another_name_elsewhere(toy, tmp_path, monkeypatch):
    assert tune(algo="exhaustive", epochs=1) == 0
    with monkeypatch.context() as patch:
        patch.setattr(trials, "run", None)
        FOLDER.rename("moved")
        assert tune(algo="exhaustive", epochs=1, results_dir=tmp_path / "moved") == 0


def test_an_option_given_and_searched_for(toy, capsys):
    assert main([*line(), "--n_layers=2"]) == 2
    assert "n_layers: is given as an option, too" in capsys.readouterr().err


class Killed(BaseException):
    """Passes every handler, as a kill does."""


def run_judged_by_rate(model, dataset, files, options, on_validation):
    """Two epochs on a toy give other scores on another processor: which trial is stopped early
    must not rest on them."""

    def judge(epoch, score):
        on_validation(epoch, -options["learning_rate"])

    return run(model, dataset, files, options, on_validation=judge)


@pytest.mark.parametrize(("algo", "states"), [("halving", 2), ("bayes", 1)])
def test_killed_at_any_write_the_search_is_the_same(toy, monkeypatch, algo, states):
    options = {"algo": algo, "max_trials": 6, "reduction_factor": 2}
    if algo == "halving":
        monkeypatch.setattr(trials, "run", run_judged_by_rate)
    assert tune(WIDE, **options, results_dir="whole") == 0
    assert len({r["state"] for r in rows("whole")}) == states
    assert len({r["learning_rate"] for r in rows("whole")}) == 6
    assert all((r["epochs"] == "2") == (r["state"] == "finished") for r in rows("whole"))
    writes = kills = 0

    def killing(original):
        def write(*args, **kwargs):
            nonlocal writes
            writes += 1
            if writes % 11 == 0:
                raise Killed  # before it is written
            original(*args, **kwargs)
            if writes % 11 == 6:
                raise Killed  # and after
            return True

        return write

    for name in ("param", "state_values", "intermediate_value", "user_attr"):
        original = getattr(optuna.storages.RDBStorage, f"set_trial_{name}")
        monkeypatch.setattr(optuna.storages.RDBStorage, f"set_trial_{name}", killing(original))
    status = None
    while status is None:
        try:
            status = tune(WIDE, **options)
        except Killed:
            kills += 1
    assert status == 0
    assert kills > 3
    assert rows() == rows("whole")


# A search of trials that wait in their third epoch as long as there is a file `hold-trial-N`.
HELD = {"model": "held_model:Held", "algo": "random", "results_dir": FOLDER}
HELD |= {"max_trials": 3, "epochs": 4, "stopping_step": 4}


def hold(*numbers):
    for number in numbers:
        Path(f"hold-trial-{number}").touch()


def let_go(*numbers):
    for number in numbers:
        Path(f"hold-trial-{number}").unlink()


@pytest.mark.slow
def test_one_of_two_machines_is_killed(toy):
    """Two commands on one folder are what two machines are."""
    hold(1, 2)
    victim = start(**HELD)
    wait_for("checkpoints/trial-1/*.last.pth", victim)
    other = start(**HELD)
    wait_for("checkpoints/trial-2/*.last.pth", other)
    victim.kill()
    victim.wait()
    let_go(1, 2)
    other.wait(timeout=400)
    said = Path("said.txt").read_text()
    assert other.returncode == 0, said
    assert [(r["trial"], r["state"], r["epochs"]) for r in rows()] == [
        (str(number), "finished", "4") for number in (1, 2, 3)
    ]
    assert said.count("was cut off, goes on from") == 1


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_command(toy):
    hold(1, 2, 3)
    process = start("--jobs=2", **HELD)
    wait_for("checkpoints/trial-1/*.last.pth", process)
    wait_for("checkpoints/trial-2/*.last.pth", process)
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    let_go(1, 2)
    wait_for("checkpoints/trial-3/*.last.pth", process)
    died = "ended with status -9; the others go on: 1"
    wait_until(lambda: died in Path("said.txt").read_text(), process)
    (left,) = children(process.pid)
    process.kill()  # and now the command itself: its worker ends with it
    process.wait()
    until(lambda: not Path(f"/proc/{left}").exists() or "(zombie)" in status(left))
    let_go(3)
    assert tune(WIDE, **HELD) == 0
    assert [(r["state"], r["epochs"]) for r in rows()] == [("finished", "4")] * 3
    assert tune(WIDE, **HELD | {"results_dir": "whole"}) == 0
    assert rows() == rows("whole")
    with sqlite3.connect(FOLDER / "trials.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (3,)
    assert json.loads((FOLDER / "search.json").read_text())["study_name"] == "Held-toy"


def status(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "(zombie)"


def children(pid):
    """The spawned workers of a command, without Python's resource tracker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == pid and "spawn_main" in command:
            found.append(int(path.parent.name))
    return sorted(found)


def test_a_search_without_matplotlib_has_its_table(toy, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "plot", trials_report.plot)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert tune(algo="exhaustive", max_trials=1) == 0
    shown = capsys.readouterr()
    assert "1 of 1 trials" in shown.out
    assert "matplotlib" in shown.err


@pytest.mark.parametrize("place", ["saved", "file/hyper.result"])
def test_where_results_cannot_go_is_told_at_once(toy, capsys, monkeypatch, place):
    Path("saved").mkdir()
    Path("file").touch()
    monkeypatch.setattr(trials, "run", None)
    assert tune(algo="exhaustive", output_file=place) == 2
    assert "--output_file" in capsys.readouterr().err
    assert not FOLDER.exists()


def test_the_result_text_goes_where_it_is_told_alone(toy):
    assert tune(algo="exhaustive", max_trials=1, output_file="other.result") == 0
    assert Path("other.result").read_text().count("Valid result:\n") == 1
    assert not (FOLDER / "hyper.result").exists()


def test_checkpoints_of_a_search_that_is_gone_are_not_gone_on_with(toy, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PlainTrainer, "_valid_epoch", fail)
        tune(algo="exhaustive", max_trials=1, eval_step=2, epochs=3)
    assert list(FOLDER.glob("checkpoints/trial-1/*.last.pth"))
    (FOLDER / "trials.db").unlink()
    assert tune(algo="exhaustive", max_trials=1, seed=7, eval_step=2, epochs=3) == 0
    assert [r["state"] for r in rows()] == ["finished"]


def test_a_trial_that_ends_while_others_are_cleared_away_keeps_its_checkpoints(tmp_path):
    """Another process ends a better one between two looks at the list."""
    done, running = TrialState.COMPLETE, TrialState.RUNNING
    first = SimpleNamespace(number=0, value=0.1, state=done)
    looks = iter(
        [SimpleNamespace(number=1, value=value, state=state)]
        for value, state in ((None, running), (0.2, done))
    )
    search = SimpleNamespace(folder=tmp_path, plan=SimpleNamespace(bigger=True))
    search.trials = lambda: [first, *next(looks)]
    search.best = lambda *trials: Search.best(search, *trials)
    folder = tmp_path / "checkpoints" / "trial-2"
    folder.mkdir(parents=True)
    trials._remove_checkpoints(search)
    assert folder.exists()
