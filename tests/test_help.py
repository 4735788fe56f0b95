"""What `--help` says: every command by itself, with examples that can be typed."""

import shlex
import sys
from pathlib import Path

import pytest

from recbole_hstu import cli
from recbole_hstu.config.command_line import read_options
from recbole_hstu.config.model_registry import recbole_models
from recbole_hstu.config.option_tables import options_page
from recbole_hstu.support.commands.command_help import about
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.files.installed import PROPERTIES

COMMANDS = list(cli._COMMANDS)


def test_every_command_is_declared_and_nothing_else():
    assert {path.stem for path in (PROPERTIES / "commands").glob("*.yaml")} == set(COMMANDS)


def named(name):
    """The options that a command declares; where it takes any, those of run, too."""
    options = about(name)["options"]
    found = {one.partition("=")[0] for line in options for one in line.split(", ")}
    return found | (named("run") if "--key" in found and name != "run" else set())


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("convert", "doctor")])
def test_a_command_has_help_of_its_own(name, capsys):
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    said = about(name)
    assert said["about"] in out
    for example in said["examples"]:
        assert f"{command(name)} {example}" in out
        for key in read_options([w for w in shlex.split(example) if w.startswith("--")]):
            assert f"--{key}" in named(name), f"{name}: its example takes --{key}"
    assert all(option in out for option in said["options"])


def test_models_stand_by_family_ours_first(capsys):
    assert cli.main(["run", "--help"]) == 0
    ours, *recbole = capsys.readouterr().out.partition("models:\n")[2].split("RecBole's, ")
    assert "HSTUText" in ours
    assert len(recbole) == 5
    listed = " ".join(" ".join(recbole).split())
    assert all(f"{model}" in listed for model in recbole_models())


@pytest.mark.parametrize("source", ["amazon2023", "steam", "csv"])
def test_convert_is_the_converter(source, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["convert", source, "--help"])
    assert done.value.code == 0
    assert f"example:\n  {command('convert')} {source} --" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["reccomend"]) == 2
    assert capsys.readouterr().err == (
        "recbole-hstu: error: reccomend: no such command; did you mean recommend?\n"
    )


@pytest.mark.parametrize(
    ("came_by", "run", "report"),
    [
        ("/usr/bin/recbole-hstu", "recbole-hstu run", "recbole-hstu report"),
        ("run_hyper.py", "python run_recbole.py", "python -m recbole_hstu.cli report"),
        ("recbole_hstu/cli.py", *(f"python -m recbole_hstu.cli {n}" for n in ("run", "report"))),
    ],
)
def test_hints_name_the_command_that_the_user_has(monkeypatch, came_by, run, report):
    monkeypatch.setattr(sys, "argv", [came_by])
    assert (command("run"), command("report")) == (run, report)


def test_a_script_has_what_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("run") == "python -m recbole_hstu.cli run"
    Path("recbole-hstu").touch(mode=0o755)
    assert command("run") == "recbole-hstu run"


def test_the_page_of_options_is_what_is_declared():
    assert (Path(__file__).parents[1] / "docs/options.md").read_text() == options_page()


def test_a_model_may_stand_behind_its_option(capsys):
    assert cli.main(["run", "--model=HSTU", "--help"]) == 0
    shown = capsys.readouterr().out
    assert cli.main(["run", "--model", "HSTU", "--help"]) == 0
    assert capsys.readouterr().out == shown
