"""A training shared by processes equals that of one; the CPU's gloo stands for NCCL."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hstu_batches import make_model
from launched_runs import in_turn, tables_after_two_steps, train
from small_data import random_rows, small_config, small_options, weights, write_inter

from recbole_hstu.cli import main
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.distributed import processes
from recbole_hstu.distributed.launcher import launch
from recbole_hstu.distributed.shared_loss import SharedLoss
from recbole_hstu.quick_start import run
from recbole_hstu.studies.compare import compare_models
from recbole_hstu.support.errors import InputError

pytestmark = pytest.mark.slow
ROOT = Path(processes.__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    "OMP_NUM_THREADS": "1",
}
NO_DROPOUT = dict.fromkeys(("input_dropout_prob", "hidden_dropout_prob"), 0.0)
NO_DROPOUT_OF = {
    "HSTU": NO_DROPOUT,
    "HSTUText": {**NO_DROPOUT, "text_encoder": "lsa", "text_dimensions": 4},
    "SASRec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
}


@pytest.fixture(autouse=True)
def odd():
    """41 users: no two processes have equally many."""
    write_inter(random_rows(n_users=41))
    titles = "".join(f"i{i}\tthe {i} of {i % 7} and {i % 5}\n" for i in range(30))
    Path("dataset/toy/toy.item").write_text("item_id:token\ttitle:token_seq\n" + titles)


def without_dropout(model, **more):
    # 20 a batch: the last one has a single row, and leaves the second process without any.
    options = {"train_batch_size": 20, "eval_batch_size": 7, "stopping_step": 100, **more}
    item_text = {"fields": ["title"]} if model == "HSTUText" else None
    known = {**small_options(model), **NO_DROPOUT_OF.get(model, {}), **options}
    return known | ({"item_text": item_text} if item_text else {})


def assert_same(one, other):
    """Losses and weights to float accuracy, metrics and every user's rank exactly."""
    for first, second in zip(one["record"].history, other["record"].history, strict=True):
        assert second.train_loss == pytest.approx(first.train_loss, rel=1e-6)
        assert dict(second.valid) == dict(first.valid)
    expected = weights(one["checkpoint"].with_suffix(".last.pth"))
    for name, value in weights(other["checkpoint"].with_suffix(".last.pth")).items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, expected[name], atol=3e-6, rtol=1e-5)
    assert other["test_result"] == one["test_result"]
    assert other["best_valid_result"] == one["best_valid_result"]
    assert np.array_equal(other["ranks"].users, one["ranks"].users)  # each once, in this order
    assert np.array_equal(other["ranks"].ranks, one["ranks"].ranks)
    assert other["record"].beyond == one["record"].beyond


SHARED = {
    "HSTU": {"metrics": ["Hit", "NDCG", "ItemCoverage"], "mask_seen": True, "windows": "all"},
    "HSTUText": {"loss_type": "shared", "stochastic_length_alpha": 1.2},
    "SASRec": {"clip_grad_norm": {"max_norm": 0.5}},
}
DROPOUT = small_options(epochs=3)


def test_two_processes_equal_one():
    """And, with dropout, a cut training the whole one; a frozen text table is never sent."""
    options = {model: without_dropout(model, **more) for model, more in SHARED.items()}
    cut = {**DROPOUT, "checkpoint_dir": "cut"}
    whole, first, resumed, (tables, projections), *two = launch(2, 0, in_turn, [
        (train, "HSTU", {**DROPOUT, "checkpoint_dir": "whole"}),
        (train, "HSTU", {**cut, "train_seconds": 1e-9}),
        (train, "HSTU", {**cut, "resume": "cut", "train_seconds": None}),
        (tables_after_two_steps,),
        *((train, model, {**options[model], "checkpoint_dir": model}) for model in SHARED),
    ])  # fmt: skip
    for model, shared in zip(SHARED, two, strict=True):
        assert_same(run(model, "toy", config_dict=options[model]), shared)
        assert len(set(shared["ranks"].users)) == len(shared["ranks"].users) == 41
        assert len(list(Path(model).iterdir())) == 2  # one process writes
    assert [len(list(Path(f"log/{model}").glob("*.log"))) for model in SHARED] == [5, 2, 2]
    # The random state of every process comes back; the time limit is shared.
    assert (first["record"].epochs, resumed["record"].epochs) == (1, 3)
    assert resumed["test_result"] == whole["test_result"]
    expected = weights(whole["checkpoint"].with_suffix(".last.pth"))
    for name, value in weights(resumed["checkpoint"].with_suffix(".last.pth")).items():
        assert torch.equal(value, expected[name]), name
    assert [table.unique().tolist() for table in tables] == [[0], [1]]
    assert torch.equal(*projections)  # parameters are sent, at the start


def as_arguments(options):
    return [f"--{key}={value}" for key, value in options.items()]


def second_of(started):
    """The second of the processes that the launcher has started."""
    children = psutil.Process(started.pid).children()
    workers = [p for p in children if any("spawn_main" in part for part in p.cmdline())]
    assert len(workers) == 2
    return max(workers, key=lambda process: process.pid)


@pytest.fixture
def study():
    """A study of two processes that takes long, and the second of them, once it trains."""
    options = small_options(epochs=100000, protocol="paper", nproc=2)
    line = [sys.executable, str(ROOT / "run_recbole.py"), "--model=HSTU", "--dataset=toy"]
    started = subprocess.Popen(
        [*line, "--seeds=1", *as_arguments(options)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 400
    while not list(Path("saved").glob("*.last.pth")) and time.monotonic() < until:
        time.sleep(0.05)
    follower = second_of(started)
    yield started, follower
    for process in (started, follower):
        if process.is_running() if process is follower else process.poll() is None:
            process.kill()


def test_a_process_that_dies_ends_the_job_and_the_study_goes_on(study):
    started, follower = study
    began = time.monotonic()
    follower.kill()
    _, err = started.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert started.returncode == 1
    assert err.splitlines()[-1] == (
        "recbole-hstu: error: process 2 of 2 was ended by signal 9, and the training with it; "
        "the same command again goes on"
    )
    assert "SIGTERM" not in err  # torch's own words
    assert "Traceback" not in err
    assert (
        len(list(Path("log_tensorboard").iterdir())) == len(list(Path("log/HSTU").iterdir())) == 1
    )
    (last,) = Path("saved").glob("*.last.pth")
    epochs = torch.load(last, weights_only=True)["epoch"] + 1
    assert not list(Path("results").rglob("*.run.json"))  # it did not fail: it was cut off
    options = small_options(epochs=100000, protocol="paper")
    assert epochs < 100000
    resumed = run(
        "HSTU", "toy", config_dict={**options, "seed": 1, "epochs": epochs + 1, "resume": str(last)}
    )
    assert resumed["record"].epochs == epochs + 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_all(study, number, status):
    started, follower = study
    started.send_signal(number)
    _, err = started.communicate(timeout=60)
    assert started.returncode == status, err
    assert "the same command again goes on" in err
    follower.wait(10)


def test_the_others_do_not_outlive_the_first(study):
    started, follower = study
    started.kill()
    follower.wait(10)


def test_a_death_under_torchrun_ends_the_job():
    options = small_options(epochs=100000, protocol="paper")
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    line += [str(ROOT / "run_recbole.py"), "--model=HSTU", "--dataset=toy", *as_arguments(options)]
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 400
    while not list(Path("saved").glob("*.last.pth")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    second = [p for p in psutil.Process(process.pid).children() if p.environ()["RANK"] == "1"]
    second[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Signal 9" in err


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        ("Pop", "nproc=2", "--nproc: Pop has a way of its own to train"),
        ("RecVAE", "nproc=2", "--nproc: RecVAE has a way of its own to train"),
        ("HSTU", "nproc=0", "nproc: 0 must be a whole number from 1 on"),
    ],
)
def test_what_cannot_be_shared_is_refused(model, option, message, capfd):
    line = ["run", f"--model={model}", "--dataset=toy", *as_arguments(small_options(model))]
    assert main([*line, f"--{option}"]) == 2
    assert message in capfd.readouterr().err
    assert not Path("saved").exists()


def test_a_loss_that_is_no_mean_over_rows_is_refused():
    """ConvNCF's is a sum: the first batch shows it."""
    with pytest.raises(InputError, match="loss is no mean over the rows of a batch"):
        run("ConvNCF", "toy", config_dict=small_options("ConvNCF", nproc=2))
    assert not list(Path("saved").glob("*.pth"))


def test_batch_normalisation_is_refused_on_cpus():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(InputError, match="normalises by batch"):
        SharedLoss(network, torch.device("cpu"))


def test_torchrun_and_nproc(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert processes.requested(1) == processes.requested(2) == 2
    with pytest.raises(InputError, match="torchrun has started 2 processes"):
        processes.requested(3)
    with pytest.raises(InputError, match="torchrun starts one training"):
        compare_models(["HSTU", "SASRec"], "toy")


def test_more_processes_than_users_are_refused(monkeypatch):
    config = small_config()
    data = load_dataset(config)
    monkeypatch.setattr(processes, "count", lambda: 42)
    with pytest.raises(InputError, match="--nproc=42: there are only 41 users to evaluate"):
        make_loaders(config, data)


@pytest.mark.parametrize("count", [2, 7, 41])
def test_shares_are_disjoint_and_whole(count, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    found = []
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        found += processes.own_rows(count)
    assert found == list(range(count))


@pytest.mark.parametrize("loss_type", ["sampled", "shared"])
def test_a_process_draws_for_its_rows_what_one_alone_draws(loss_type):
    """Whatever was drawn before, and again after a restart."""
    model, lengths = make_model(loss_type=loss_type), torch.tensor([3, 1, 4, 2, 4])
    model.draws.at(epoch=2, step=7)
    whole = model.draw_negatives(lengths, torch.arange(5))
    own = torch.tensor([1, 3])
    again = make_model(loss_type=loss_type)
    again.draws.at(epoch=2, step=7)
    part = again.draw_negatives(lengths[own], own)
    if loss_type == "shared":
        assert torch.equal(part, whole)
        return
    rows = dict(zip([1, 3, 0, 2, 4], whole.split([1, 2, 3, 4, 4]), strict=True))  # by length
    assert torch.equal(part, torch.cat([rows[1], rows[3]]))
    model.draws.at(epoch=2, step=8)
    assert not torch.equal(model.draw_negatives(lengths, torch.arange(5)), whole)
