"""The fast reader of Python literals against `ast.literal_eval`."""

from __future__ import annotations

import ast
import gzip

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataset_converters.reading import literals
from dataset_converters.reading.literals import dict_parser

KEYS = ("a", "username", "it's", 'a"b', "text")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.text("'\"\\u, {}[]:nN")
)
values = scalars | st.lists(scalars, max_size=4) | st.lists(st.lists(scalars, max_size=2))
keys = st.sampled_from(KEYS) | st.text("ab'\"\\, {}:", max_size=5)


def expected(line: str) -> dict:
    return {k: v for k, v in ast.literal_eval(line).items() if k in KEYS}


@given(st.dictionaries(keys, values, max_size=6), st.booleans())
@example({"a": "\\", "text": ["", "'", '"', "\\'"]}, True)
def test_whatever_python_writes_is_read_as_python_reads_it(record, prefixed):
    line = repr(record)
    if prefixed:
        prefix = {k: "u" + repr(k) for k in record}
        line = "{" + ", ".join(f"{prefix[k]}: {v!r}" for k, v in record.items()) + "}"
    assert dict_parser(KEYS)(line) == expected(line)


@settings(max_examples=300)
@given(st.text("u'\"\\{}[],: atrueNone01-.e\n", max_size=30))
def test_a_line_is_refused_exactly_when_python_refuses_it(text):
    line = "{'a': " + text + "}"
    try:
        wanted = expected(line)
    except (ValueError, SyntaxError, TypeError, AttributeError):
        with pytest.raises(ValueError, match=r"literal|dict"):
            dict_parser(KEYS)(line)
    else:
        assert dict_parser(KEYS)(line) == wanted


@pytest.mark.parametrize(
    "line",
    ["", "{", "{'a': 1", "{'a': 1, ", "{'a': 1}}", "[1]", "{'a': __import__('os')}", "{'a': 1}; x"],
)
def test_no_literal_and_no_code_gets_through(line):
    with pytest.raises(ValueError, match=r"literal|dict"):
        dict_parser(KEYS)(line)


def test_an_escaped_key_and_an_unknown_escape():
    assert dict_parser(["a"])("{'\\x61': 1}") == {"a": 1}
    assert dict_parser(["a"])(r"{'a': '\d', 'b': '\x'}") == {"a": r"\d"}


def test_real_lines_take_the_fast_way_and_agree(data, monkeypatch):
    games = gzip.decompress((data / "steam_games.json.gz").read_bytes()).decode("utf-8")
    lines = games.splitlines() + (data / "steam_reviews.json").read_text("utf-8").splitlines()
    wanted = [ast.literal_eval(line) for line in lines]
    monkeypatch.setattr(literals, "_parse_slowly", None)
    every_key = {key for record in wanted for key in record}
    assert [dict_parser(every_key)(line) for line in lines] == wanted
