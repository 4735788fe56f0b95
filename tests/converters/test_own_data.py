"""One's own files, as a new user would bring them."""

from __future__ import annotations

import csv
import gzip
import json

import pandas as pd
import pytest
import yaml
from converted_files import stats_of

# ISO 8601 and its usual loose forms; Python 3.10 itself reads the first, the last and few others.
DATES = {
    "2023-01-01": 1672531200,
    "20230101T000000Z": 1672531200,
    "2023-01-01T00:00:00z": 1672531200,
    "2023-01-01T01:00+0100": 1672531200,
    "2023-01-01 02:00:00+02": 1672531200,
    "2023-01-01 02:00:00 +02:00": 1672531200,
    " 2023-01-01T00:00:00 Z ": 1672531200,
    "2023-01-01T00:00:00.5Z": 1672531200,
    "2023-01-01T00:00:00,123456789Z": 1672531200,
    "2022-W52-7": 1672531200,
    "1969-12-31T23:59:59+00:00": -1,
}
ORDERS = [
    ("2023-04-01T10:00:00Z", "4", "M\u00fcller, A.", "note; x", "12-B"),
    ("2023-04-01T12:00:00+02:00", "5", 'O"Neil', "", "NA"),
    ("2023-04-02", "1.5", "M\u00fcller, A.", "", "NA"),
    ("2016-02-29 00:00:01", "3", 'O"Neil', "", "007"),
]
COLUMNS = ("bought at", "stars", "customer", "note", "sku")
NAMES = ["--user=customer", "--item=sku", "--time=bought at", "--rating=stars", "--name=shop"]


@pytest.fixture
def orders(tmp_path):
    path = tmp_path / "orders.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([COLUMNS, *ORDERS])
    return path


@pytest.fixture
def products(tmp_path):
    path = tmp_path / "products.jsonl"
    records = [
        {"maker": "ACME\tInc.", "sku": "NA", "title": 'A 14" screen\nwide', "tags": ["a", "b"]},
        {"maker": None, "sku": "12-B", "title": "Caf\u00e9", "tags": []},
        {"maker": "x", "sku": "007", "title": "", "tags": ["c"]},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def rows(folder, ending="inter"):
    with (folder / f"{folder.name}.{ending}").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))[1:]


def test_columns_in_an_odd_order(convert, orders):
    folder = convert("csv", "--interactions", orders, *NAMES)
    assert rows(folder) == [
        ["M\u00fcller, A.", "12-B", "4.0", "1680343200"],
        ["M\u00fcller, A.", "NA", "1.5", "1680393600"],
        ['O"Neil', "007", "3.0", "1456704001"],
        ['O"Neil', "NA", "5.0", "1680343200"],
    ]
    assert not (folder / "shop.item").exists()


def test_a_column_is_one_thing(convert, orders):
    words = convert("csv", "--name=shop", "--interactions", orders, "--user=sku", "--item=sku")
    assert "--item: column 'sku' is that of --user, too; name another" in words
    error = convert("csv", "--interactions", orders, *NAMES, f"--name={'x' * 300}")
    assert "cannot be written (File name too long)" in error


def test_items_with_their_texts(convert, orders, products):
    folder = convert(
        *("csv", "--interactions", orders, *NAMES),
        *("--items", products, "--text", "title", "brand=maker", "tags"),
    )
    assert rows(folder, "item") == [
        ["NA", 'A 14" screen wide', "ACME Inc.", "a, b"],
        ["12-B", "Caf\u00e9", "", ""],
        ["007", "", "x", "c"],
    ]
    header = (folder / "shop.item").read_text("utf-8").splitlines()[0]
    assert header == "item_id:token\ttitle:token_seq\tbrand:token_seq\ttags:token_seq"


def test_a_yaml_file_says_the_same(convert, orders, products, tmp_path):
    config = tmp_path / "shop.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "name": "shop",
                "interactions": str(orders),
                "user": "customer",
                "item": "sku",
                "time": "bought at",
                "items": str(products),
                "text": {"title": "title", "brand": "maker"},
                "duplicates": "last",
            }
        )
    )
    folder = convert("csv", "--config", config, "--time_unit=ms")
    assert rows(folder)[0][2:] == ["1.0", "1680343200000"]
    config.write_text("usr: customer\n")
    assert "unknown option usr" in convert("csv", "--config", config)
    config.write_text("k_core: many\nname: x\ninteractions: y.csv\n")
    assert "k_core" in convert("csv", "--config", config)
    config.write_text("duplicates: sometimes\nname: x\ninteractions: y.csv\n")
    assert "duplicates" in convert("csv", "--config", config)


def test_json_lines_parquet_and_gzip_give_the_same_bytes(convert, orders, tmp_path):
    frame = pd.read_csv(orders, dtype=str, keep_default_na=False)
    frame.to_json(tmp_path / "orders.jsonl", orient="records", lines=True)
    (tmp_path / "orders.tsv.gz").write_bytes(
        gzip.compress(frame.to_csv(sep="\t", index=False).encode("utf-8"))
    )
    names = ["orders.csv", "orders.jsonl", "orders.tsv.gz"]
    try:
        frame.to_parquet(tmp_path / "orders.parquet")
        names.append("orders.parquet")
    except ImportError:
        assert "pip install pyarrow" in convert(
            "csv", "--interactions", tmp_path / "orders.parquet", *NAMES
        )
    made = {
        (
            convert("csv", "--interactions", tmp_path / n, *NAMES, "--name", n[-5:])
            / f"{n[-5:]}.inter"
        ).read_bytes()
        for n in names
    }
    assert len(made) == 1


def test_parquet_keeps_its_types(convert, tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(["2020-01-01", "2020-01-01 00:00:00.5"], format="ISO8601"),
            "item_id": [2**60, 7],
            "user_id": ["a", "b"],
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    folder = convert("csv", "--interactions", tmp_path / "x.parquet", "--name", "x")
    assert rows(folder) == [["a", str(2**60), "1.0", "1577836800"], ["b", "7", "1.0", "1577836800"]]
    assert stats_of(folder)["settings"]["dates_rounded_down"] == 1


def test_whole_numbers_stay_exactly_as_they_are(convert, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"timestamp,item_id,user_id\n{2**63 - 1},i,u\n{-(2**63)},i,u\n12.0,i,u\n")
    folder = convert("csv", "--interactions", path, "--name", "x")
    assert [int(row[3]) for row in rows(folder)] == [-(2**63), 12, 2**63 - 1]


@pytest.mark.parametrize("text", DATES)
def test_dates_of_every_form(convert, tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(f'timestamp,item_id,user_id\n"{text}",i,u\n')
    folder = convert("csv", "--interactions", path, "--name", "x")
    assert [int(row[3]) for row in rows(folder)] == [DATES[text]]


@pytest.mark.parametrize(
    "text", ["2023-01", "2023-W01", "2023-13-01", "2023-01-01T", "2023-01-01T25:00", "1/2/2023", ""]
)
def test_what_is_no_date(convert, tmp_path, text, caplog):
    path = tmp_path / "x.csv"
    path.write_text(f"timestamp,item_id,user_id\n{text},i,u\n2023-01-01,i,u\n")
    folder = convert("csv", "--interactions", path, "--name", "x", "--max_malformed=0.5")
    assert rows(folder) == [["u", "i", "1.0", "1672531200"]]
    assert "x.csv: line 2 left out" in caplog.text
    assert "is no whole number and no ISO date" in caplog.text


@pytest.mark.parametrize(
    "line", ["u,i", "u,i,1,2", ",i,1", "u,i,yesterday", "u,i,1.5", "u,i,2020-01-01", 'u,"i"x,1']
)
def test_lines_that_cannot_be_used(convert, tmp_path, line, caplog):
    path = tmp_path / "x.csv"
    path.write_text(f"user_id,item_id,timestamp\nu,i,5\n{line}\n")
    folder = convert("csv", "--interactions", path, "--name", "x", "--max_malformed=0.5")
    assert rows(folder) == [["u", "i", "1.0", "5"]]
    assert "x.csv: line 3 left out" in caplog.text


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[PAD],i,3,1", "user id '[PAD]' is RecBole's name for no user"),
        ("u,[PAD],3,1", "item id '[PAD]' is RecBole's name for no item"),
        ("u,i,,1", "rating '' is no number"),
        ("u,i,1_000,1", "rating '1_000' is no number"),
    ],
)
def test_what_is_wrong_with_a_line(convert, tmp_path, line, why, caplog):
    path = tmp_path / "x.csv"
    path.write_text(f"user_id,item_id,rating,timestamp\nu,i,2,5\n{line}\n")
    folder = convert(
        "csv", "--interactions", path, "--name", "x", "--rating=rating", "--max_malformed=0.5"
    )
    assert rows(folder) == [["u", "i", "2.0", "5"]]
    assert f"x.csv: line 3 left out: {why}" in caplog.text


def test_quoted_newlines_and_damaged_bytes_in_csv(convert, tmp_path, caplog):
    path = tmp_path / "x.csv"
    path.write_bytes(b'user_id,note,item_id,timestamp\nu,"two\nlines",i,5\nu,\xff,j,6\nu,,k,7\n')
    folder = convert("csv", "--interactions", path, "--name", "x", "--max_malformed=0.5")
    assert [row[1] for row in rows(folder)] == ["i", "k"]
    assert "line 4 left out: not UTF-8" in caplog.text


def test_a_stray_quote_costs_its_own_line(convert, tmp_path, caplog):
    lines = [f'u{n},{n}" screen,i,{n}' for n in range(60)]
    for stray in (10, 20, 50):
        lines[stray] = f'u{stray},"screen,i,{stray}'
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["user_id,note,item_id,timestamp", *lines, ""]))
    folder = convert("csv", "--interactions", path, "--name", "x", "--max_malformed=0.1")
    assert sorted(int(row[3]) for row in rows(folder)) == sorted({*range(60)} - {10, 20, 50})
    assert all(f"line {line} left out: not CSV" in caplog.text for line in (12, 22, 52))
    assert stats_of(folder)["files"][0]["malformed"] == 3


def test_quotes_that_are_letters(convert, tmp_path):
    orders, items = tmp_path / "x.tsv", tmp_path / "items.csv"
    orders.write_text('user_id\t"note"\titem_id\ttimestamp\n"u\t"\t"i"\t5\nv\t""\t"i"\t6\n')
    items.write_text('item_id,title\n"i",""two"\n')
    given = ("csv", "--name=x", "--interactions", orders)
    folder = convert(*given, "--items", items, "--text=title", "--no_quotes")
    assert rows(folder) == [['"u', '"i"', "1.0", "5"], ["v", '"i"', "1.0", "6"]]
    assert rows(folder, "item") == [['"i"', '""two"']]
    config = tmp_path / "x.yaml"
    config.write_text("no_quotes: true\n")
    assert rows(convert(*given, "--config", config))[0][:2] == ['"u', '"i"']
    error = convert("csv", "--interactions", "x.jsonl.gz", "--name=x", "--no_quotes")
    assert "--no_quotes is for CSV and TSV files; leave it out" in error


@pytest.mark.parametrize("more", [[], ["--no_quotes"]])
def test_a_first_line_that_ends_nowhere(convert, tmp_path, more):
    path = tmp_path / "x.csv"
    path.write_bytes(b"user_id,item_id,timestamp\r" + b"u,i,5\r" * 30_000)
    error = convert("csv", "--interactions", path, "--name", "x", *more)
    assert error.startswith(f"error: {path}: line 1 is no header of CSV (new-line character")
    assert "save the file with lines that end in a newline" in error


def test_a_very_long_name_of_a_column(convert, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"user_id,{'n' * 200_000},item_id,timestamp\nu,,i,5\n")
    assert rows(convert("csv", "--interactions", path, "--name", "x")) == [["u", "i", "1.0", "5"]]


def test_keys_of_json_lines_may_be_left_out(convert, orders, tmp_path, caplog):
    items = tmp_path / "items.jsonl"
    lines = ["{", '{"sku": "NA", "title": "one"}', '{"sku": "12-B", "maker": "ACME"}']
    items.write_text("\n".join([*lines, ""]))
    given = ("csv", "--interactions", orders, *NAMES, "--items", items, "--max_malformed=0.5")
    folder = convert(*given, "--text", "title", "maker")
    assert rows(folder, "item") == [["NA", "one", ""], ["12-B", "", "ACME"]]
    assert "items.jsonl: line 1 left out" in caplog.text
    error = convert(*given, "--text", "titel")
    assert "no column named 'titel'; the file has 'sku', 'title', 'maker'" in error


def test_a_byte_order_mark_before_json_lines(convert, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"user_id": "u", "item_id": "i", "timestamp": 5}\n', encoding="utf-8-sig")
    assert rows(convert("csv", "--interactions", path, "--name", "x")) == [["u", "i", "1.0", "5"]]


@pytest.mark.parametrize("damage", [slice(20, 60), slice(-8, None)])
def test_a_damaged_gzip_file(convert, tmp_path, damage):
    path = tmp_path / "x.csv.gz"
    rows_of_file = "".join(f"u{n * n % 77},i{n * n % 91},{n}\n" for n in range(300))
    whole = bytearray(gzip.compress(f"user_id,item_id,timestamp\n{rows_of_file}".encode()))
    whole[damage] = b"\xff" * len(whole[damage])
    path.write_bytes(whole)
    error = convert("csv", "--interactions", path, "--name", "x")
    assert f"{path}: the file is damaged or cut short" in error


@pytest.mark.parametrize("name", ["utf8x", "base64", "hex", "rot13"])
def test_what_is_no_encoding_of_text(convert, orders, name):
    error = convert("csv", "--interactions", orders, *NAMES, "--encoding", name)
    assert f"--encoding={name}: no such encoding of text; try utf-8" in error


def test_a_field_of_texts_is_named_once(convert, orders, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("sku,a,b=c\nNA,one,two\n")
    given = ("csv", "--interactions", orders, *NAMES, "--items", items, "--text")
    error = convert(*given, "title=a", "title=b=c")
    assert "--text: the field title is named twice" in error
    folder = convert(*given, "title=b=c", "--keep_unknown_items")
    assert ["NA", "two"] in rows(folder, "item")


def test_errors_say_what_to_do(convert, orders, tmp_path):
    wrong = convert("csv", "--interactions", orders, "--name", "x")
    assert "no column named 'user_id', 'item_id', 'timestamp'; the file has 'bought at'" in wrong
    odd = tmp_path / "odd.csv"
    odd.write_text("user_id;item_id;timestamp\nu;i;1\n")
    folder = convert("csv", "--interactions", odd, "--name", "x")
    assert rows(folder) == [["u", "i", "1.0", "1"]]
    assert "must end in one of" in convert("csv", "--interactions", "x.xls", "--name", "x")
    assert "--name is needed" in convert("csv", "--interactions", orders)
    assert "--interactions is needed" in convert("csv", "--name", "x")
    assert "cannot be read" in convert("csv", "--interactions", "gone.csv", "--name", "x")
    items = ("--items", orders, "--text", "bought at", "--item_id", "sku")
    error = convert("csv", "--interactions", orders, *NAMES, *items)
    assert "NAME='bought at'" in error
    assert "NAME='rating'" in convert(
        "csv", "--interactions", orders, "--text=rating", "--items=x", "--name=x"
    )
    odd.write_text("user_id,item_id,item_id,timestamp\nu,i,j,1\n")
    assert "more than one column is named 'item_id'" in convert(
        "csv", "--interactions", odd, "--name", "x"
    )
    assert "go together" in convert("csv", "--interactions", orders, *NAMES, "--items", orders)
