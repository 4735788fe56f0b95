"""Cleaning of item texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_converters.reading.clean_text import amazon_text, is_clean_token, plain_text

anything = st.recursive(st.none() | st.text(st.characters()), lambda s: st.lists(s, max_size=3))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Rock &amp; Roll", "Rock & Roll"),
        ("&lt;b&gt;bold&lt;/b&gt; <br/>text", "bold text"),
        ("tab\there\nand\r\nthere", "tab here and there"),
        ("Caf\u00e9 \u2013 14\u2033 \u4e2d\u6587", "Caf 14"),
        (["one", "", "  ", "two&nbsp;three"], "one, two three"),
        (None, ""),
        ([], ""),
        (12.5, "12.5"),
        ('14" "quoted"', '14" "quoted"'),
    ],
)
def test_amazon_texts(raw, clean):
    assert amazon_text(raw) == clean


def test_other_texts_keep_their_letters_and_entities():
    assert plain_text("Caf\u00e9 &amp; <b>\u2122\x00\x1f\u2028x") == "Caf\u00e9 &amp; <b>\u2122 x"
    assert plain_text("half \ud800 pair") == "half \ufffd pair"


@given(anything)
def test_every_text_is_one_line_of_single_spaced_words(value):
    for clean in (plain_text, amazon_text):
        text = clean(value)
        assert " ".join(text.split()) == text
        assert "".join(c for c in text if c.isprintable() or ord(c) > 127) == text
        text.encode("utf-8")
    assert amazon_text(value).isascii()


@pytest.mark.parametrize("token", ["", "[PAD]", "a\tb", "a\n", "\x00", "\ud800"])
def test_ids_that_cannot_stand_in_a_line(token):
    assert not is_clean_token(token)


@pytest.mark.parametrize("token", ["NA", " ", "a b", "\u00e9\u4e2d", '"quoted"', "0"])
def test_ids_that_can(token):
    assert is_clean_token(token)
