"""The writers that every table goes through: what is written is read back."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.reports.text_tables import csv_table, markdown_table, terminal_table

ROOT = Path(__file__).parents[2]

# Python's csv leaves a carriage return bare where lines end in a line feed.
texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=20)
cells = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), texts)


@given(st.lists(st.tuples(cells, cells), max_size=4))
def test_csv_is_read_back(rows):
    read = list(csv.reader(io.StringIO(csv_table(["a", "b"], rows), newline="")))
    assert read == [
        ["a", "b"],
        *(["" if value is None else str(value) for value in row] for row in rows),
    ]


def test_markdown_says_where_numbers_stand():
    assert markdown_table(["Model", "MRR"], [["HSTU", "0.1"], ["LIS", ""]], "lr") == (
        "| Model | MRR |\n| --- | ---: |\n| HSTU | 0.1 |\n| LIS |  |\n"
    )
    assert markdown_table(["a", "b"], []).splitlines()[1] == "| --- | --- |"


def test_the_terminal_shows_text_as_it_is_and_never_folds():
    """No cell is taken for a number, and long ones stay on their line."""
    long = "x" * 300
    shown = terminal_table(["Model", "n"], [["1e5", "007"], [f"two\nlines {long}", "1"]], "lr")
    lines = shown.splitlines()
    assert lines[1] == "=" * len(lines[1])
    assert lines[2].split() == ["1e5", "007"]
    assert lines[2].endswith(" 007")
    assert [line.split()[0] for line in lines[3:]] == ["two", "lines"]
    assert long in lines[4]


@pytest.mark.parametrize("library", ["texttable", "csv"])
def test_no_other_module_writes_tables(library):
    """Reading CSV is another matter: the converters do, and write atomic files."""
    elsewhere = {"atomic.py", "csv_chunks.py", "tables.py", "atomic_file.py"}
    users = []
    for room in ("recbole_hstu", "dataset_converters", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                if library in names and path.name not in elsewhere:
                    users.append(path.name)
    assert users == ["text_tables.py"]


@pytest.mark.parametrize("width", [30, 60, 1000])
def test_a_wide_table_becomes_several(monkeypatch, width):
    """Every cell once, each block with the first column, no line longer than the terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"metric{i}" for i in range(9)]
    shown = terminal_table(["Model", *names], [["HSTU", *"123456789"], ["Pop", *"abcdefghi"]])
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    blocks = sum(line.startswith("Model") for line in lines)
    assert blocks == {30: 5, 60: 2, 1000: 1}[width]
    assert sum(line.startswith("HSTU") for line in lines) == blocks
    words = shown.split()
    assert all(words.count(word) == 1 for word in (*names, *"123456789", *"abcdefghi"))
