"""Item text: cleaning, the two styles, the real ml-100k and Electronics items."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import recbole
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.data.files.item_text import ItemText, clean, read_item_texts
from recbole_hstu.support.errors import InputError

RAW = Path(__file__).parents[2].parent / "shared" / "data" / "raw"
AMAZON = ItemText(("title", "features", "categories", "description"), "sentences", ascii=True)
STEAM = ItemText(("app_name", "publisher", "developer", "genres", "tags", "specs"), "pipes")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("<p>One</p> <br/>two", "One two"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("&amp;lt;b&amp;gt;x", "x"),
        ("a\n\tb   c ", "a b c"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("I <3 music", "I <3 music"),
        ("a <!-- note > --> b", "a b"),
        ("one&nbsp;two", "one two"),
        ("", ""),
    ],
)
def test_cleaning(raw, expected):
    assert clean(raw) == expected


def test_ascii_is_a_choice():
    assert clean("Café ™ 7", ascii_only=True) == "Caf 7"
    assert clean("Café ™ 7") == "Café ™ 7"


HTML = st.lists(
    st.sampled_from(["&amp;", "lt;", "gt;", "<", ">", "b", "/", "&", "é", " ", "\n", "#38;"])
)


@given(st.one_of(st.text(), HTML.map("".join)), st.booleans())
def test_cleaning_again_changes_nothing(text, ascii_only):
    once = clean(text, ascii_only)
    assert clean(once, ascii_only) == once


def test_sentences_and_pipes():
    assert AMAZON.join(["Strings", "Bright, Steel", "", "Good."]) == "Strings. Bright, Steel. Good."
    assert (
        STEAM.join(["Half-Life", "Valve", "", "Action, FPS", "", ""])
        == "Half-Life | Valve | Action, FPS"
    )
    assert AMAZON.join(["", " ", "<br>", ""]) == ""


def test_ml_100k():
    path = Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.item"
    texts = read_item_texts(path, ItemText(("movie_title", "release_year", "class")))
    assert len(texts) == 1682
    assert texts["1"] == "Toy Story. 1995. Animation Children's Comedy."
    assert all(texts.values())


@pytest.mark.realdata
@pytest.mark.skipif(not RAW.is_dir(), reason="no raw data here")
def test_every_electronics_item_becomes_plain_text(tmp_path):
    """Real titles, features and descriptions, HTML and all, through the `.item` file."""
    with gzip.open(RAW / "amazon2023/meta_Electronics_sample.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    rows = [
        "item_id:token\ttitle:token_seq\tfeatures:token_seq\tcategories:token_seq\tdescription:token_seq"
    ]
    for line in lines:
        values = [line["title"] or "", *(", ".join(line[f]) for f in AMAZON.fields[1:])]
        values = [" ".join(value.replace('"', "'").split()) for value in values]
        rows.append("\t".join([line["parent_asin"], *values]))
    (tmp_path / "e.item").write_text("\n".join(rows) + "\n", "utf-8")
    texts = read_item_texts(tmp_path / "e.item", AMAZON)
    assert len(texts) == len(lines)
    for text in texts.values():
        assert text.isascii() and "  " not in text and "&amp;" not in text and "<br" not in text
        assert not text or text.endswith(".")
        assert clean(text, ascii_only=True) == text


def test_numbers_and_gaps(tmp_path):
    (tmp_path / "x.item").write_text(
        "item_id:token\ttitle:token_seq\tyear:float\n1\tNA\t1995\n2\t\t\n3\tnull\t1.5\n", "utf-8"
    )
    texts = read_item_texts(tmp_path / "x.item", ItemText(("title", "year")))
    assert texts == {"1": "NA. 1995.", "2": "", "3": "null. 1.5."}


def test_bad_properties_and_files_are_clear_errors(tmp_path):
    (tmp_path / "x.item").write_text("item_id:token\ttitle:token_seq\n1\tA\n1\tB\n", "utf-8")
    with pytest.raises(InputError, match="no column brand; the file has item_id, title"):
        read_item_texts(tmp_path / "x.item", ItemText(("brand",)))
    with pytest.raises(InputError, match="items twice: 1"):
        read_item_texts(tmp_path / "x.item", ItemText(("title",)))
    with pytest.raises(InputError, match=r"none\.item"):
        read_item_texts(tmp_path / "none.item", ItemText(("title",)))
    for value in (
        None,
        [],
        {"fields": []},
        {"fields": "title"},
        {"fields": ["t"], "sep": ","},
        {"fields": ["t"], "style": "prose"},
        {"fields": ["t"], "ascii": "yes"},
    ):
        with pytest.raises(InputError, match=r"item_text|item text"):
            ItemText.from_property(value)
    assert ItemText.from_property({"fields": ["t"]}) == ItemText(("t",))
