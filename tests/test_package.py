"""The package as a whole: what its import brings along, and what may import what."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("ray", "hyperopt", "transformers", "openai", "sklearn", "matplotlib", "optuna")


def imported(module):
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    assert not imported("recbole_hstu") & {*HEAVY, "recbole"}


def test_a_run_needs_neither_ray_nor_encoders():
    """RecBole's metrics bring scikit-learn."""
    modules = imported("recbole_hstu.quick_start")
    assert not modules & {*HEAVY} - {"sklearn"}
    assert "recbole.quick_start" not in modules


def test_idle_threads_are_told_to_sleep_before_torch_is_loaded():
    code = (
        "import os, sys; from recbole_hstu.cli import main; main(['--version']); "
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    unset = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    for given, expected in (({}, "30000 False"), ({"GOMP_SPINCOUNT": "7"}, "7 False")):
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=unset | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == expected


# A room may import what stands below it, design.md's list read upwards.
ROOMS = [
    "errors yaml_values memory precision option_checks interrupts divergence",
    "devices followers",
    "evaluation",
    "registry",
    "config",
    "encoders data.atomic_file data.item_text data.text_features checkpoint",
    "data",
    "model",
    "rank_collector batch_share resumable",
    "trainer run_log experiments.records run_record",
    "quick_start",
    "experiments doctor",
    "cli",
]


FREE_OF_RECBOLE = ["evaluation", "model/layers.py", "model/losses.py", "model/packing.py"]


def level(module):
    name = module.removeprefix("recbole_hstu").lstrip(".")
    best = (-1, -1)
    for place, rooms in enumerate(ROOMS):
        for room in rooms.split():
            if name == room or name.startswith(f"{room}."):
                best = max(best, (len(room), place))
    return best[1]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "recbole_hstu":
            names = [alias.name for alias in node.names if not alias.name.startswith("__")]
            yield from (f"recbole_hstu.{name}" for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "recbole_hstu").rglob("*.py")), ids=str)
def test_every_import_points_down(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for target in imports_of(path):
        if target.startswith("recbole_hstu."):
            assert level(target) <= level(module), f"{module} imports {target}"
            assert level(target) >= 0, target


def test_some_rooms_know_no_recbole():
    for name in FREE_OF_RECBOLE:
        place = ROOT / "recbole_hstu" / name
        for path in [place] if place.is_file() else place.rglob("*.py"):
            assert not [m for m in imports_of(path) if m.split(".")[0] == "recbole"], path


def test_the_converters_stand_apart():
    for path in (ROOT / "dataset_converters").rglob("*.py"):
        assert not [m for m in imports_of(path) if m.startswith("recbole")], path
