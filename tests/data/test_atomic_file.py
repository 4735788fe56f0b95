"""Atomic files: every row has the columns of the header, or is refused with its line."""

from __future__ import annotations

import csv
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recbole_hstu.data.files.atomic_file import read_atomic
from recbole_hstu.data.prepared.columns import read_columns
from recbole_hstu.support.errors import InputError

WIDTH = 3
cells = st.sampled_from(["", "a", ' "', 'b"c', '"d\te"', '"\n\t\n"', '"f""\tg"', '""', "  "])
full = st.lists(cells, min_size=WIDTH, max_size=WIDTH)
short = st.lists(cells, min_size=1, max_size=WIDTH - 1)
wide = st.lists(cells, min_size=WIDTH + 1, max_size=WIDTH + 2)
blank = st.sampled_from([[""], ["   "]])
rows = st.lists(full, min_size=1, max_size=6) | st.lists(full | short | wide | blank, max_size=6)


def width_of(row: list[str], separator: str) -> int:
    """Of a row as it is written; 0 of a blank line, which is none."""
    if len(row) == 1 and not row[0].strip():
        return 0
    return len(next(csv.reader([separator.join(row)], delimiter=separator)))


@given(rows, st.sampled_from(["\t", ","]), st.sampled_from(["\n", "\r\n"]))
@example([["a", "b"], ["c", "d", '"e\tf"']], "\t", "\n")
@example([["a", "b", ""], ['""']], "\t", "\n")
@example([["a", "b", "c"], ["a", "b", "c", "d"]], "\t", "\n")
@example([["a", "b", "c", "d"], ["a", "b"]], "\t", "\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_of_another_width_is_refused(tmp_path, rows, separator, end):
    path = tmp_path / "x.item"
    header = separator.join(f"{name}:token" for name in "xyz")
    lines = [separator.join(row) for row in rows]
    path.write_bytes("".join(line + end for line in [header, *lines]).encode())
    places, line = [], 2
    for row, text in zip(rows, lines, strict=True):
        if width_of(row, separator) not in (0, WIDTH):
            places.append(line)
        line += text.count("\n") + 1
    try:
        frame = read_atomic(path, separator=separator)
    except InputError as error:
        expected = f"line {places[0]}: . columns where the header has 3" if places else "no row"
        assert re.search(expected, str(error))
        columns = dict.fromkeys("xyz", "token")
        options = {"fields": columns, "separator": separator, "time_field": None}
        assert read_columns(path, columns, **options) is None  # which leaves it to `read_atomic`
    else:
        assert not places
        assert len(frame) == sum(width_of(row, separator) > 0 for row in rows)


def test_lines_are_counted_as_an_editor_does(tmp_path):
    """Blank ones and those within quotes, too."""
    path = tmp_path / "x.inter"
    path.write_text('item:token\ttime:float\n\n\n"a\nb"\t1\nc\tx\n')
    with pytest.raises(InputError, match=r"line 6: column 'time' holds 'x'"):
        read_atomic(path, time_field="time")


@pytest.mark.parametrize("odd", ["1_000", "١٢", "1.5", "", "9" * 20])
def test_a_time_is_a_whole_number_as_other_programs_write_it(tmp_path, odd):
    path = tmp_path / "x.inter"
    path.write_text(f"item:token\ttime:float\na\t7\nb\t{odd}\n")
    with pytest.raises(InputError, match=r"line 3: column 'time' holds .* not a whole number"):
        read_atomic(path, time_field="time")
    path.write_text("item:token\ttime:float\na\t-7\nb\t9007199254740993\n")
    assert read_atomic(path, time_field="time")["time"].tolist() == [-7, 2**53 + 1]


def test_a_quote_that_takes_rows_into_its_cell_is_told_of(tmp_path, caplog):
    path = tmp_path / "x.item"
    path.write_text('item:token\ttitle:token_seq\n1\t"abc\n2\tdef\n3\t"ghi\n4\tjkl\n')
    assert read_atomic(path)["item"].tolist() == ["1", "4"]
    assert "line 2: the quoted cell 'abc" in caplog.text
