"""What goes wrong in silence, or with advice that leads astray, is one line that helps."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ORDERS = "user_id,item_id,timestamp\nanna,b12,1600000000\nben,b7,1600000060\n"
ARTICLES = "item_id,title\n0012,Milk\n0007,Bread\n"


@pytest.fixture
def shop(convert, tmp_path):
    """Convert these orders, by default two real lines of them."""

    def run(*more, orders=ORDERS, name="orders.csv"):
        path = tmp_path / name
        path.write_bytes(orders if isinstance(orders, bytes) else orders.encode())
        (tmp_path / "articles.csv").write_text(ARTICLES)
        return convert("csv", "--name=shop", "--interactions", path, *more)

    return run


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    return file.getvalue()


def as_parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["anna"]}), file)
    return file.getvalue()


@pytest.mark.parametrize("more", [(), ("--encoding=latin-1",)], ids=["guessed", "named"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("orders.csv", gzip.compress(ORDERS.encode()), "packed with gzip; name it orders.csv.gz"),
        ("orders.csv.gz", gzip.compress(gzip.compress(b"x")), "packed twice with gzip; unpack it"),
        ("orders.csv", zipped(), "a zip archive, as .xlsx files are; save the sheet as CSV"),
        ("orders.xlsx", zipped(), "a zip archive, as .xlsx files are; save the sheet as CSV"),
        ("orders.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "as .xls files are; save the sheet"),
        ("orders.csv", as_parquet(), "Parquet; give the file a name that ends in .parquet"),
    ],
    ids=["gzip", "gzip twice", "zip", "workbook", "old workbook", "Parquet"],
)
def test_what_is_no_text(shop, tmp_path, name, content, words, more):
    error = shop(*more, orders=content, name=name)
    assert error.startswith(f"error: {tmp_path / name}: ")
    assert words in error


def test_ids_that_do_not_meet(shop, tmp_path):
    items = ("--items", tmp_path / "articles.csv", "--text=title")
    assert (
        "item without metadata; compare the ids of the two files ('b12' in orders.csv, '0012' in "
        "articles.csv), or keep these interactions with --keep_unknown_items"
    ) in shop(*items)
    assert (shop(*items, "--keep_unknown_items") / "shop.inter").exists()


def test_nothing_is_left_for_other_reasons(shop):
    assert "2 of an item; lower --k_core" in shop("--k_core=2")
    assert "orders.csv; check that it is the right" in shop(orders=ORDERS.splitlines()[0] + "\n")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--item_id=sku", "--item_id is for a file of items; name that with --items"),
        ("--keep_unknown_items", "--keep_unknown_items is for a file of items"),
        ("--rating=", "--rating: the name of the column is missing"),
    ],
)
def test_an_option_that_would_change_nothing(shop, option, words):
    assert words in shop(option)


def test_an_encoding_of_no_text(convert, tmp_path):
    (tmp_path / "x.parquet").write_bytes(as_parquet())
    given = ("--interactions", tmp_path / "x.parquet", "--encoding=latin-1")
    assert "--encoding is for files of text; leave it out" in convert("csv", "--name=x", *given)


def test_a_unit_of_times_that_are_numbers(shop, caplog):
    words = "orders.csv: the times are whole numbers and stay as they are: --time_unit=ms"
    shop()
    assert "--time_unit" not in caplog.text
    shop("--time_unit=ms")
    assert caplog.text.count(words) == 1
    caplog.clear()
    shop("--time_unit=ms", orders="user_id,item_id,timestamp\nanna,b12,2020-09-13\n")
    assert "stay as they are" not in caplog.text


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1600000000, 1600000060000, 1600000120], "2 like seconds, 1 like milliseconds; give all"),
        ([1600000000000, 1600000060000000], "1 like milliseconds, 1 like microseconds"),
        ([1600000000, 1600000060, 0], None),
        ([1600000000000, 1600000060000, -1], None),
        (["2020-09-13", "9999-12-31", "2021-01-01"], None),
    ],
)
def test_times_of_two_units(shop, caplog, times, words):
    lines = "".join(f"u{n},i,{time}\n" for n, time in enumerate(times))
    shop(orders="user_id,item_id,timestamp\n" + lines)
    assert ("different units" in caplog.text) == bool(words)
    assert (words or "") in caplog.text


def test_the_name_of_recboles_own_data_set(shop, convert, data):
    words = "ml-100k comes with RecBole, and a run takes that one; choose another --name"
    assert words in shop("--name=ml-100k")
    assert words in convert("steam", "--raw", data, "--name=ml-100k")


@pytest.mark.parametrize(
    ("found", "run"), [("/bin/x", "recbole-hstu run"), (None, "python -m recbole_hstu.cli run")]
)
def test_the_command_that_trains_can_be_typed(shop, caplog, monkeypatch, tmp_path, found, run):
    monkeypatch.setattr(shutil, "which", lambda _: found)
    shop("--name=my shop")
    where = f"--data_path={tmp_path / 'dataset'}"
    assert f"train on it: {run} --model=HSTU '--dataset=my shop' {where}" in caplog.text
