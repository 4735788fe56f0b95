"""The YAML of --config: names are the text that stands there, and nothing is lost in silence."""

from __future__ import annotations

import pytest
from converted_files import stats_of

ORDERS = "user_id,no,off,010,null,timestamp\nanna,k7,5,b12,x,1600000000\n"


@pytest.fixture
def configured(convert, tmp_path):
    """Convert real lines by a configuration of further lines, which begin on line 2."""
    (tmp_path / "orders.csv").write_text(ORDERS)
    (tmp_path / "articles.csv").write_text("010,yes,y\nb12,Milk,low fat\n")

    def run(*lines):
        path = tmp_path / "shop.yaml"
        path.write_text("\n".join([f"interactions: {tmp_path / 'orders.csv'}", *lines, ""]))
        made = convert("csv", "--config", path)
        return made.removeprefix(f"error: {path}: ") if isinstance(made, str) else made

    return run


def rows(folder, ending="inter"):
    return (folder / f"{folder.name}.{ending}").read_text().splitlines()


def test_names_are_the_text_that_stands_there(configured, tmp_path):
    items = (f"items: {tmp_path / 'articles.csv'}", "text: {title: yes, more: y}")
    folder = configured("name: 010", "user: no", "item: 010", "rating: off", *items)
    assert folder.name == "010"
    assert rows(folder)[1:] == ["k7\tb12\t5.0\t1600000000"]
    assert rows(folder, "item") == [
        "item_id:token\ttitle:token_seq\tmore:token_seq",
        "b12\tMilk\tlow fat",
    ]
    assert configured("name: no", "user: 'null'", "item: 010", "rating:").name == "no"


def test_true_false_and_numbers_are_so_where_they_are_meant(configured):
    folder = configured("name: x", "item: no", "parquet: on", "no_quotes: no", "k_core: 1")
    assert (folder / "x.inter.parquet").exists()
    assert stats_of(folder)["settings"]["user_core"] == 1
    folder = configured("name: x", "item: no", "parquet: false", "max_malformed: 1e-2")
    assert not (folder / "x.inter.parquet").exists()


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["item: no", "item: off"], "line 3: 'item' stands on line 2 already; leave one"),
        (["text:", "  title: no", "  title: off"], "line 4: 'title' stands on line 3 already"),
        (["usr: no"], "line 2: unknown option usr"),
        (["parquet: !!bool maybe"], "line 2: parquet: expected true or false"),
        (["parquet: 1"], "line 2: parquet: expected true or false"),
        (["parquet: 'true'"], "line 2: parquet: expected true or false"),
        (["user: [no, off]"], "line 2: user: takes one value"),
        (["text: {title: }"], "line 2: text: expected the name of a column"),
        (["text: ['--items=x.csv']"], "line 2: text: give '--items=x.csv' a name"),
        (["text: {a=b: no}"], "line 2: text: 'a=b' cannot be the name of a field"),
        (["k_core: off"], "argument --k_core: 'off' is not a whole number"),
        (["limit: true"], "argument --limit: 'true' is not a whole number"),
        (["? [a]", ": no"], "line 2: expected a name before the colon"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(configured, lines, error):
    assert configured(*lines).startswith(error)
