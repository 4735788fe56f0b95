"""A data set that is made anew, and files that are not what they seem."""

from __future__ import annotations

import codecs
import json

import pytest
import yaml
from converted_files import stats_of

HEAD = "user_id,item_id,timestamp\n"
PRODUCTS = "item_id,title\nß1,Größe\ni2,naïve\n"
ORDERS = HEAD + "Jürgen,ß1,1600000000\nu2,i2,1600000001\n"


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "orders.csv").write_text(ORDERS, "utf-8")
    (tmp_path / "products.csv").write_text(PRODUCTS, "utf-8")
    return tmp_path


def made(convert, folder, *more, text=True):
    items = ("--items", folder / "products.csv", "--text", "title") if text else ()
    orders = ("csv", "--name", "shop", "--interactions", folder / "orders.csv")
    return convert(*orders, *items, *more)


def test_the_settings_lie_beside_the_files(convert, shop):
    settings = yaml.safe_load((made(convert, shop) / "shop.yaml").read_text("utf-8"))
    assert settings == {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "item_text": {"fields": ["title"], "style": "sentences"},
    }
    settings = yaml.safe_load((made(convert, shop, text=False) / "shop.yaml").read_text("utf-8"))
    assert set(settings) == {"load_col"}


def test_old_items_do_not_stay_beside_new_interactions(convert, shop, caplog):
    folder = made(convert, shop)
    (folder / "shop.lsa.safetensors").write_text("side features")
    assert (folder / "shop.item").exists()
    made(convert, shop, text=False)
    assert not (folder / "shop.item").exists()
    assert "shop.item of the data set before is gone" in caplog.text
    assert (folder / "shop.lsa.safetensors").exists()


def test_settings_that_somebody_wrote_are_kept_aside(convert, shop, caplog):
    folder = made(convert, shop)
    made(convert, shop)
    assert not (folder / "shop.before.yaml").exists()
    (folder / "shop.yaml").write_text("topk: [5]\n")
    made(convert, shop)
    assert (folder / "shop.before.yaml").read_text() == "topk: [5]\n"
    assert "item_text" in (folder / "shop.yaml").read_text()
    assert "the old one stays as shop.before.yaml" in caplog.text
    (folder / "shop.yaml").write_text("topk: [7]\n")
    made(convert, shop)
    assert (folder / "shop.before.yaml").read_text() == "topk: [5]\n"
    assert (folder / "shop.before-2.yaml").read_text() == "topk: [7]\n"


def test_settings_as_they_were_written_are_replaced(convert, shop):
    folder = made(convert, shop)
    (folder / "shop.yaml").write_text("topk: [5]\n")
    made(convert, shop, text=False)
    made(convert, shop)
    assert [path.name for path in folder.glob("*before*")] == ["shop.before.yaml"]
    assert (folder / "shop.before.yaml").read_text() == "topk: [5]\n"


def test_settings_of_an_older_version_are_kept_aside(convert, shop):
    folder = made(convert, shop)
    before, stats = (folder / "shop.yaml").read_text("utf-8"), folder / "shop.stats.json"
    (folder / "shop.before.yaml").write_text("topk: [5]\n")
    stats.write_text(json.dumps({k: v for k, v in stats_of(folder).items() if "sha256" not in k}))
    made(convert, shop, text=False)
    assert (folder / "shop.before.yaml").read_text() == "topk: [5]\n"
    assert (folder / "shop.before-2.yaml").read_text("utf-8") == before


@pytest.mark.parametrize("name", ["shop.inter", "shop.item", "shop.inter.parquet"])
def test_files_that_no_conversion_wrote_are_left_alone(convert, shop, name):
    path = shop / "dataset/shop" / name
    path.parent.mkdir(parents=True)
    path.write_text("user_id:token\titem_id:token\n")
    error = made(convert, shop, text=False)
    assert error.startswith(f"error: {path}: no conversion wrote this file, for shop.stats.json")
    assert "move it away, or choose another --name" in error
    assert path.read_text() == "user_id:token\titem_id:token\n"


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (["5", "4", "1"], "all times lie between 1 and 5, which is in or near 1970"),
        (
            [str(1_600_000_000 + n % 5) for n in range(300)],
            "300 interactions have only 5 different times",
        ),
    ],
)
def test_stars_taken_for_times_are_noticed_first(convert, tmp_path, times, words, caplog):
    path = tmp_path / "orders.csv"
    path.write_text(HEAD + "".join(f"u{n},i,{time}\n" for n, time in enumerate(times)))
    convert("csv", "--name", "shop", "--interactions", path)
    messages = [record.getMessage() for record in caplog.records]
    place = next(n for n, message in enumerate(messages) if words in message)
    assert "--time" in messages[place]
    assert place < next(n for n, message in enumerate(messages) if "users," in message)


def test_real_times_are_not_doubted(convert, shop, caplog):
    made(convert, shop)
    assert "is the column of the times" not in caplog.text


def test_repeated_items_are_told(convert, shop, caplog):
    path = shop / "products.csv"
    path.write_text(PRODUCTS + "i2,another\n", "utf-8")
    folder = made(convert, shop)
    assert "1 records repeat an item id; the first of each id counts" in caplog.text
    assert stats_of(folder)["metadata"]["repeated"] == 1


@pytest.mark.parametrize(
    ("encoding", "given"),
    [
        ("utf-16", True),
        ("utf-16", False),
        ("utf-32", False),
        ("utf-8-sig", False),
        ("cp1252", True),
    ],
)
def test_other_encodings(convert, shop, encoding, given, caplog):
    plain = made(convert, shop)
    expected = [(plain / name).read_bytes() for name in ("shop.inter", "shop.item")]
    for name, text in (("orders.csv", ORDERS), ("products.csv", PRODUCTS)):
        (shop / name).write_text(text, encoding=encoding)
    folder = made(convert, shop, *((f"--encoding={encoding}",) if given else ()))
    assert [(folder / name).read_bytes() for name in ("shop.inter", "shop.item")] == expected
    if not given and encoding != "utf-8-sig":
        assert "orders.csv: read as " in caplog.text


def test_an_encoding_that_does_not_fit(convert, shop):
    (shop / "orders.csv").write_text(ORDERS, encoding="cp1252")
    assert "orders.csv: not UTF-8; name its encoding, as in --encoding=" in made(convert, shop)
    assert "no such encoding" in made(convert, shop, "--encoding=klingon")
    (shop / "orders.csv").write_bytes(codecs.BOM_UTF16_LE + b"a")
    assert "orders.csv: not utf-16 text" in made(convert, shop, "--encoding=utf-16")
