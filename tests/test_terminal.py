"""What a run shows on the terminal: a few lines, and the rest in its log."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from small_data import command, small_options

from recbole_hstu.cli import main
from recbole_hstu.training.epoch_lines import EpochLines


def test_a_run_is_some_fifteen_lines(toy, capfd):
    assert main(command(epochs=40, stopping_step=40)) == 0
    out, err = capfd.readouterr()
    lines = (err + out).splitlines()
    assert 10 < len(lines) <= 20, "\n".join(lines)
    assert "\r" not in err + out
    assert max(map(len, lines)) <= 100
    (log,) = Path("log/HSTU").glob("*.log")
    content = log.read_text()
    for shown in ("40 users, 30 items", "device cpu", str(log), "epoch 30 of 40", "best is epoch"):
        assert shown in err
        assert shown in content
    for kept in ("Training Hyper Parameters", "epoch 17 training", "valid result"):
        assert kept not in err
        assert kept in content


def test_verbose_shows_what_the_log_holds(toy, capfd):
    assert main(command("--verbose")) == 0
    err = capfd.readouterr().err
    assert "Training Hyper Parameters" in err
    assert "epoch 2 training" in err
    assert "epoch 0" not in err
    assert "\x1b" not in err  # colours are for a terminal


def test_every_run_of_a_study_looks_alike_on_a_terminal(toy):
    main_end, terminal = os.openpty()
    line = [
        sys.executable,
        "-c",
        "import sys; from recbole_hstu.cli import main; main(sys.argv[1:])",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [*line, *command(model="Pop", seeds="1,2,3,4")],
        **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
        env=environment,
    ):
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # Linux ends it so
            while part := os.read(main_end, 1 << 16):
                shown += part
    os.close(main_end)
    results = [line for line in shown.splitlines() if b"result: " in line]
    assert len(results) == 4
    assert len({len(line) for line in results}) == 1
    assert results[0].count(b"\x1b[0m") == 1


def test_no_bars_where_the_output_is_no_terminal(toy, capfd):
    options = small_options(show_progress=True)
    line = ["run", "--model=HSTU", "--dataset=toy"]
    assert main(line + [f"--{key}={value}" for key, value in options.items()]) == 0
    err = capfd.readouterr().err
    assert "\r" not in err
    assert "it/s" not in err


def test_which_epochs_are_shown(caplog, monkeypatch):
    """1, 3, 10, 30, ..., and one a minute where they are slow."""
    caplog.set_level("INFO")
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def shown(seconds, epochs):
        caplog.clear()
        lines = EpochLines("ndcg@10")
        for epoch in range(epochs):
            clock[0] += seconds
            lines.of_epoch({"epoch": epoch, "train_loss": 1.0}, epochs)
        return [int(record.getMessage().split()[1]) for record in caplog.records]

    assert shown(0.1, 120) == [1, 3, 10, 30, 100]
    assert shown(25, 12) == [1, 3, 6, 9, 10]


@pytest.mark.parametrize(("module", "said"), [("recbole.model.x", False), ("mine", True)])
def test_future_warnings_of_recbole_are_silent_from_python_too(module, said):
    code = (
        "import warnings, recbole_hstu; "
        f"warnings.warn_explicit('it ends', FutureWarning, 'x.py', 1, module={module!r})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ("it ends" in done.stderr) == said
