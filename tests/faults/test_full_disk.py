"""A disk that is full while a checkpoint or a log is written: the error is the kernel's, by
/dev/full or a limit on the size of files."""

import resource
from pathlib import Path

import pytest
import torch
from small_data import command, small_options

from recbole_hstu.cli import main
from recbole_hstu.quick_start import run
from recbole_hstu.records.run_log import RunLog, _LogFile
from recbole_hstu.support.errors import CannotWrite, InputError
from recbole_hstu.support.files import whole_file
from recbole_hstu.support.files.writable import check_folders
from recbole_hstu.training import checkpoint
from recbole_hstu.training.trainer import PlainTrainer

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_the_previous_checkpoint_stays_and_the_run_goes_on_from_it(toy, capfd, monkeypatch):
    options = small_options(epochs=4, protocol="paper")
    whole = run("HSTU", "toy", config_dict={**options, "checkpoint_dir": "whole"})
    write, written = checkpoint.save_checkpoint, []
    new_part = whole_file._new_part

    def on_full_disk(path):
        monkeypatch.setattr(whole_file, "_new_part", new_part)
        part = path.with_name(f".{path.name}.full.part")
        part.symlink_to(FULL)
        return part, part.open("wb")

    def save(file, state):
        if len(written) == 2:
            monkeypatch.setattr(whole_file, "_new_part", on_full_disk)
        written.append(file)
        write(file, state)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    line = ["run", "--model=HSTU", "--dataset=toy"]
    line += [f"--{key}={value}" for key, value in options.items()]
    capfd.readouterr()
    assert main(line) == 2
    (error,) = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    assert "No space left on device" in error
    assert "the previous checkpoint is kept" in error
    (last,) = Path("saved").iterdir()  # nothing half-written beside it
    assert checkpoint.load_checkpoint(last)["epoch"] == 1
    resumed = run("HSTU", "toy", config_dict={**options, "resume": str(last)})
    expected = checkpoint.load_checkpoint(whole["checkpoint"])["state_dict"]
    for name, value in checkpoint.load_checkpoint(resumed["checkpoint"])["state_dict"].items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_log_that_is_full_is_told_of_once_and_the_run_goes_on(toy, capfd, monkeypatch):
    def on_full_disk(log):
        log.path.parent.mkdir(parents=True)
        return _LogFile(FULL, encoding="utf-8")

    monkeypatch.setattr(RunLog, "_new_file", on_full_disk)
    assert main(command(epochs=1)) == 0
    said = capfd.readouterr()
    assert said.err.count("/dev/full: the log cannot be written any more (No space left") == 1
    assert "Traceback" not in said.err
    assert list(Path("saved").iterdir())


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_curves_on_a_full_disk_end_the_run_in_one_line(toy, capfd, monkeypatch):
    monkeypatch.setattr(
        PlainTrainer, "_add_train_loss_to_tensorboard", lambda *_: FULL.write_bytes(b"1")
    )
    assert main(command(epochs=1)) == 2
    assert capfd.readouterr().err.endswith("cannot be used (No space left on device)\n")


def test_a_folder_on_a_full_disk_is_refused_before_the_run(monkeypatch):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(InputError, match=r"^log: the folder cannot be written .*too large"):
            check_folders("log")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(Path().iterdir())


def test_a_disk_that_is_full_amid_a_tensor():
    """torch then speaks of an unexpected position, not of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CannotWrite) as refused:
            checkpoint.save_checkpoint("x.pth", {"a": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(refused.value) == "x.pth: the checkpoint cannot be written (File too large)"
