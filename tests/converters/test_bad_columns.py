"""Files by columns that are not what they seem, and a disk that is full: one line, nothing lost."""

from __future__ import annotations

import errno
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from converted_files import stats_of

from dataset_converters import convert as converting

GOOD = {"user_id": ["a", "b"], "item_id": [1, 2], "timestamp": [1_600_000_000, 1_600_000_001]}


def made(convert, folder, columns, *more):
    path = folder / "x.parquet"
    pq.write_table(pa.table(columns), path)
    return convert("csv", "--name", "x", "--interactions", path, *more)


def test_a_parquet_file_cut_short(convert, tmp_path):
    folder = made(convert, tmp_path, GOOD)
    before = (folder / "x.inter").read_bytes()
    path = tmp_path / "x.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path}: cannot be read" in convert("csv", "--name", "x", "--interactions", path)
    assert (folder / "x.inter").read_bytes() == before


def test_parquet_out_holds_the_very_events_and_goes_with_its_data_set(convert, tmp_path):
    columns = {**GOOD, "user_id": ['say "a"', "b"], "timestamp": [2**60 + 1, 5]}
    folder = made(convert, tmp_path, columns, "--parquet")
    written = pq.read_table(folder / "x.inter.parquet").to_pydict()
    wanted = zip(columns["user_id"], ["1", "2"], [1.0, 1.0], columns["timestamp"], strict=True)
    assert set(zip(*written.values(), strict=True)) == set(wanted)
    before = (folder / "x.inter").read_bytes()
    assert (made(convert, tmp_path, written) / "x.inter").read_bytes() == before
    # Without --parquet no file of other events stays.
    assert not (folder / "x.inter.parquet").exists()


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("user_id", [[1], [2]], "'user_id' is of type list"),
        ("item_id", [1.5, 2.0], "'item_id' is of type double; it must hold text or whole numbers"),
        ("timestamp", [True, False], "'timestamp' is of type bool; it must hold whole numbers"),
    ],
)
def test_a_column_of_the_wrong_type(convert, tmp_path, column, values, wanted):
    assert wanted in made(convert, tmp_path, {**GOOD, column: values})


def test_an_id_that_is_null_is_counted_with_its_row(convert, tmp_path, caplog):
    columns = {**GOOD, "user_id": ["a", None]}
    assert "1 of 2 lines read are malformed" in made(convert, tmp_path, columns)
    assert "x.parquet: line 2 left out: user id None" in caplog.text
    folder = made(convert, tmp_path, columns, "--max_malformed=0.5")
    assert stats_of(folder)["files"][0]["malformed"] == 1


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("whole", "kind", "late"),
    [
        (pa.int64(), pa.timestamp("s"), 253_402_300_800),
        (pa.int64(), pa.timestamp("us"), 2**62),
        (pa.int64(), pa.timestamp("ms", tz="UTC"), -(2**60)),
        (pa.int32(), pa.date32(), 2**31 - 1),
    ],
)
def test_a_time_beyond_the_years_of_the_calendar(
    convert, tmp_path, caplog, whole, kind, late, place
):
    times = [1_000, 1_000]
    times[place] = late
    columns = {**GOOD, "timestamp": pa.array(times, whole).cast(kind)}
    folder = made(convert, tmp_path, columns, "--max_malformed=0.5", "--time_unit=ms")
    assert stats_of(folder)["files"][0]["malformed"] == 1
    assert f"x.parquet: line {place + 1} left out: column 'timestamp'" in caplog.text


def test_a_text_that_python_cannot_hold_is_counted(convert, tmp_path, caplog):
    days = pa.array([1, 2**31 - 1], pa.int32()).cast(pa.date32())
    items = pa.table({"item_id": ["1", "2"], "day": days})
    pq.write_table(items, tmp_path / "items.parquet")
    more = ("--items", tmp_path / "items.parquet", "--text=day", "--max_malformed=0.5")
    folder = made(convert, tmp_path, GOOD, *more)
    assert stats_of(folder)["files"][1]["malformed"] == 1
    assert "items.parquet: line 2 left out" in caplog.text


@pytest.mark.parametrize("writer", ["write_interactions", "write_parquet", "write_rows"])
def test_a_disk_that_fills_up_leaves_the_old_data_set(convert, tmp_path, monkeypatch, writer):
    (tmp_path / "items.csv").write_text("item_id,title\n1,one\n2,two\n")
    items = ("--items", tmp_path / "items.csv", "--text=title", "--parquet")
    folder = made(convert, tmp_path, GOOD, *items)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = getattr(converting, writer)

    def full(path, *more):
        write(path, *more)
        path.write_bytes(path.read_bytes()[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(converting, writer, full)
    error = made(convert, tmp_path, GOOD, *items)
    assert error == f"error: {folder}: cannot be written (No space left on device)"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in folder.parent.iterdir()} == {"x", ".x.lock"}


def test_a_parquet_file_damaged_inside_a_page(convert, tmp_path):
    folder = made(convert, tmp_path, {name: values * 500 for name, values in GOOD.items()})
    before = (folder / "x.inter").read_bytes()
    path = tmp_path / "x.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 40 + whole[44:])
    assert f"{path}: cannot be read" in convert("csv", "--name", "x", "--interactions", path)
    assert (folder / "x.inter").read_bytes() == before
