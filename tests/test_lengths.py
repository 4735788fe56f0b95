"""Short functions and short files: what does not fit on a screen is two things.

A function's lines are those from `def` to its end, docstring included. The longest ones are lists
of checks and steps one after the other; beyond 45 lines they have always been two subjects.
"""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEDIAN, NINE_IN_TEN, LONGEST, FILE = 9, 25, 45, 300


def files():
    for package in ("recbole_hstu", "dataset_converters"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def lengths_of_functions():
    """`file: name` -> lines."""
    return {
        f"{name}: {node.name}:{node.lineno}": node.end_lineno - node.lineno + 1
        for name, text in files()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_are_short():
    lengths = lengths_of_functions()
    median = statistics.median(lengths.values())
    ninth = statistics.quantiles(lengths.values(), n=10)[-1]
    longest = sorted(lengths, key=lengths.__getitem__)[-5:]
    shown = ", ".join(f"{name} ({lengths[name]})" for name in reversed(longest))
    print(f"{len(lengths)} functions: median {median:g}, 90% up to {ninth:g}; {shown}")  # noqa: T201
    assert median <= MEDIAN
    assert ninth <= NINE_IN_TEN
    long = {name.rpartition(":")[0] for name, lines in lengths.items() if lines > LONGEST}
    assert long == set()


def test_files_are_short():
    lengths = {name: len(text.splitlines()) for name, text in files()}
    longest = sorted(lengths, key=lengths.__getitem__)[-5:]
    print(", ".join(f"{name} ({lengths[name]})" for name in reversed(longest)))  # noqa: T201
    long = {name for name, lines in lengths.items() if lines > FILE}
    assert long == set()
