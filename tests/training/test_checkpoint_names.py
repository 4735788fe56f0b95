"""Two runs never share a file, however close together they start."""

import os
import threading
import time
from pathlib import Path

import pytest
import torch
from small_data import small_options

from recbole_hstu.model.hstu import HSTU
from recbole_hstu.quick_start import run
from recbole_hstu.records import run_log
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.whole_file import ABANDONED_S
from recbole_hstu.training import checkpoint, trainer


@pytest.fixture
def one_second(monkeypatch):
    """All runs of a test start within the same second."""
    for module in (run_log, trainer):
        monkeypatch.setattr(module, "get_local_time", lambda: "Jan-01-2024_00-00-00")


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_runs_of_one_second_keep_what_is_theirs(toy, one_second, rate):
    """With other settings, and with the very same."""
    first = run("HSTU", "toy", config_dict=small_options(epochs=1))
    before = {file: file.read_bytes() for file in Path().glob("saved/*.pth")}
    logged = first["log"].read_bytes()
    second = run("HSTU", "toy", config_dict=small_options(epochs=1, learning_rate=rate))
    assert len(names("saved")) == 4
    assert first["checkpoint"] != second["checkpoint"]
    assert {file: file.read_bytes() for file in before} == before
    assert first["log"] != second["log"]
    assert first["log"].read_bytes() == logged
    assert len(list(Path("log/HSTU").glob("*.run.json"))) == 2
    assert len(list(Path("log/HSTU").glob("*.ranks.npz"))) == 2


def test_a_second_run_begins_before_the_first_has_saved(toy, one_second, monkeypatch):
    """The name is held from the beginning, not from the first checkpoint on."""
    honest, inner = HSTU.calculate_loss, []

    def nested(self, interaction):
        if not inner:
            inner.append(None)
            inner[0] = run("HSTU", "toy", config_dict=small_options(epochs=1))
        return honest(self, interaction)

    monkeypatch.setattr(HSTU, "calculate_loss", nested)
    outer = run("HSTU", "toy", config_dict=small_options(epochs=1))
    assert outer["checkpoint"] != inner[0]["checkpoint"]
    assert outer["log"] != inner[0]["log"]
    for result in (outer, inner[0]):
        state = checkpoint.load_checkpoint(result["checkpoint"])
        assert state["best_valid_result"] == result["best_valid_result"]
    assert len(names("saved")) == 4


def test_many_at_once_get_a_name_each():
    start, found = threading.Barrier(16), []

    def claim():
        start.wait()
        with checkpoint.claimed("saved", "HSTU-toy", 1) as file:
            found.append(file)
            start.wait()

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16
    assert not names("saved")  # and nothing of it is left


@pytest.mark.parametrize("name", ["x-1.pth", "x-1.last.pth"])
def test_a_name_with_a_checkpoint_is_taken(name):
    Path("saved").mkdir()
    Path("saved", name).touch()
    with checkpoint.claimed("saved", "x", 1) as file:
        assert file == Path("saved/x-2-1.pth")
    assert names("saved") == [name]


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_file(toy, monkeypatch):
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(HSTU, "calculate_loss", lambda self, interaction: nan * 1)
    with pytest.raises(InputError, match="NaN"):
        run("HSTU", "toy", config_dict=small_options())
    assert not names("saved")


def test_what_a_killed_run_left_goes_in_time():
    Path("saved").mkdir()
    left = Path("saved/.x-1.pth.claim")
    left.touch()
    with checkpoint.claimed("saved", "x", 1) as file:
        assert file.name == "x-2-1.pth"  # it may be alive, on another machine
    long_ago = time.time() - ABANDONED_S - 60
    os.utime(left, (long_ago, long_ago))
    with checkpoint.claimed("saved", "x", 1) as file:
        assert file.name == "x-1.pth"
    assert not names("saved")


def test_a_resumed_run_keeps_its_name(toy):
    first = run("HSTU", "toy", config_dict=small_options(epochs=1))["checkpoint"]
    last = str(first.with_suffix(".last.pth"))
    again = run("HSTU", "toy", config_dict=small_options(epochs=2, resume=last))["checkpoint"]
    assert again == first
    assert len(names("saved")) == 2


def test_nothing_is_claimed_where_nothing_is_saved(toy):
    run("HSTU", "toy", config_dict=small_options(epochs=1), saved=False)
    assert not names("saved")
