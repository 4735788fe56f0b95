"""The package as a whole: what its import brings along, and what may import what."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = (
    "ray",
    "hyperopt",
    "transformers",
    "openai",
    "sklearn",
    "matplotlib",
    "optuna",
    "onnxruntime",
)


def imported(module):
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    assert not imported("recbole_hstu") & {*HEAVY, "recbole", "torch", "pandas", "numpy"}


def test_what_is_asked_for_comes_and_no_more():
    """RecBole's metrics bring scikit-learn; a run needs neither ray nor encoders."""
    heavy = {*HEAVY, "requests", "recbole.quick_start"} - {"sklearn"}
    code = (
        "import sys, recbole_hstu; print('torch' in sys.modules, end=' '); "
        "from recbole_hstu import Recommender; import recbole_hstu.quick_start; "
        f"print(Recommender.__name__, set(sys.modules) & {heavy!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "Recommender", "set()"]


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


# A room may import from itself and from the rooms before it (docs/architecture.md).
ROOMS = (
    *("support", "distributed", "config", "data", "evaluation", "records", "layers", "encoders"),
    *(
        "model",
        "semantic_ids",
        "queries",
        "training",
        "serving",
        "service",
        "reports",
        "quick_start",
    ),
    *("studies", "tuning", "doctor", "cli"),
)
FREE_OF_RECBOLE = {
    *("support", "layers", "encoders", "reports", "doctor"),
    *("evaluation.ranks", "evaluation.metrics", "evaluation.segments", "evaluation.significance"),
    *("evaluation.beyond", "records.rank_file", "records.run_record"),
}


def room_of(module):
    """`recbole_hstu.layers.losses` -> layers; the package's own face stands below all."""
    return module.split(".")[1] if "." in module else None


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "recbole_hstu":
            names = [alias.name for alias in node.names if not alias.name.startswith("__")]
            yield from (f"recbole_hstu.{name}" for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules():
    for path in sorted((ROOT / "recbole_hstu").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def test_every_import_points_to_an_earlier_room():
    for module, path in modules():
        for target in imports_of(path):
            if target.startswith("recbole_hstu.") and room_of(module) is not None:
                here, there = room_of(module), room_of(target)
                assert ROOMS.index(there) <= ROOMS.index(here), f"{module} imports {target}"


def test_no_two_modules_import_each_other():
    """Inside a room, too."""
    arrows = {
        module: {t for t in imports_of(path) if t.startswith("recbole_hstu.")}
        for module, path in modules()
    }

    def reach(module, path):
        assert module not in path, " -> ".join([*path, module])
        for target in arrows.get(module, ()):
            reach(target, [*path, module])

    for module in arrows:
        reach(module, [])


def test_some_rooms_know_no_recbole():
    for module, path in modules():
        name = module.removeprefix("recbole_hstu.")
        if {name, name.split(".")[0]} & FREE_OF_RECBOLE:
            assert not [m for m in imports_of(path) if m.split(".")[0] == "recbole"], module


def test_the_converters_stand_apart():
    for path in (ROOT / "dataset_converters").rglob("*.py"):
        assert not [m for m in imports_of(path) if m.startswith("recbole")], path


def test_the_architecture_page_names_rooms_in_their_order_and_files_that_exist():
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = dict(re.findall(r'"(\d+) (\w+)[":]', page))
    text = dict(re.findall(r"\b(\d+) (\w+)[,.]", page))
    order = {str(place): room for place, room in enumerate(ROOMS, 1)}
    assert text == order
    assert drawn == {place: room for place, room in order.items() if room != "support"}
    for path in re.findall(r"`([\w/]+\.(?:py|yaml))`", page):
        assert any((ROOT / top / path).exists() for top in ("", "recbole_hstu")) or "NAME" in path
