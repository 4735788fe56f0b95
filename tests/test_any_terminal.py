"""What a command has to say, it says on every terminal."""

import io
import os
import subprocess
import sys

import pytest
from small_data import command

from recbole_hstu import cli
from recbole_hstu.cli import main

SAID = "±†‡é"


def on_terminal(encoding, *arguments):
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": encoding}
    line = [sys.executable, *arguments]
    done = subprocess.run(line, check=False, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"~+-?"),
        ("latin-1", "±+-é".encode("latin-1")),
        ("utf-8", SAID.encode()),
        ("ascii:backslashreplace", b"\\xb1\\u2020\\u2021\\xe9"),
    ],
)
def test_signs_that_it_does_not_know(encoding, shown):
    code = (
        "import sys; from recbole_hstu import cli; "
        f"cli._COMMANDS['doctor'] = lambda _: sys.stdout.write({SAID!a}) * 0; "
        "sys.exit(cli.main(['doctor']))"
    )
    assert on_terminal(encoding, "-c", code) == shown


def test_a_study_ends_with_its_table(toy, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(command(model="Pop", seeds="1,2", baseline="Pop")) == 0
    terminal.flush()
    shown = terminal.buffer.getvalue()
    assert b"~ 0.0000" in shown
    assert b"Mean ~ standard deviation over seeds." in shown


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("| true", 0, ""),
        (">&-", 0, ""),
        ("> /dev/full", 1, "recbole-hstu: error: the output cannot be written"),
    ],
)
def test_an_output_that_nobody_takes(unbuffered, ending, status, said):
    line = f"set -o pipefail; {sys.executable} -m recbole_hstu.cli --help {ending}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", line], check=False, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.partition(" (")[0]) == (status, said)


def test_a_pipe_or_a_disk_that_is_not_the_output(monkeypatch, capsys):
    """A pipe of its own is a fault of the command; a full disk is none, nor is it the output's."""
    errors = [BrokenPipeError("its own"), OSError(28, "full")]

    def fail(_):
        raise errors.pop(0)

    monkeypatch.setitem(cli._COMMANDS, "doctor", fail)
    with pytest.raises(BrokenPipeError, match="its own"):
        main(["doctor"])
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "recbole-hstu: error: a file of this run: cannot be used (full)\n"
    )
