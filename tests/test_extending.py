"""docs/extending.md, word for word: its files are written, its commands run, in an empty folder."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from shell import words_of

from recbole_hstu.cli import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = "import sys; sys.path.pop(0); from recbole_hstu.cli import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def forget_its_modules(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("markov", None)


def spoken(line, capfd):
    """What a command of the page prints.

    The first runs in a process of its own, where the folder is not on Python's path, as in pip's
    script; the others run here, since a process takes seconds to start.
    """
    program, *words = words_of(line)
    capfd.readouterr()
    if program == "python":
        runpy.run_path(words[0], run_name="__main__")
    elif not Path("saved").exists():
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", CONSOLE, *words], env=environment, check=True)
    else:
        assert main(words) == 0, line
    return capfd.readouterr().out


def test_the_page_does_what_it_says(capfd):
    """A model outside the package: trained, tuned for two trials, evaluated from its checkpoint."""
    said = []
    for language, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text()):
        if language == "sh":
            said += [spoken(line, capfd) for line in text.splitlines()]
        else:
            Path(text.splitlines()[0].removeprefix("# ")).write_text(text)
    trained, options, tuned, own, paper, from_python = said
    assert "Markov" in trained
    assert "--order=2" in options
    assert "(int, from 1) How many of the last events count." in options
    assert "2 of 2" in tuned
    assert "model: markov:Markov" in Path("results/tune-Markov-ml-100k/best.yaml").read_text()
    assert "valid  hit@10" in own
    assert "valid" not in paper  # the paper's protocol validates on nobody
    assert "test   hit@200" in paper
    assert from_python.splitlines()[-1].startswith("3 torch.Size([60,")
