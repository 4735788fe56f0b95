"""Steam, from real lines."""

from __future__ import annotations

import ast
import calendar
import gzip
import shutil
import time

import pytest
from converted_files import stats_of

from dataset_converters.sources.steam import lost_by_published_code, seconds_of


@pytest.fixture
def raw(data, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("steam_reviews.json", "steam_games.json.gz"):
        shutil.copy(data / name, folder)
    return folder


def steam(convert, raw, *more):
    return convert("steam", "--raw", raw, *more)


def rows(folder, ending):
    lines = (folder / f"{folder.name}.{ending}").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


def test_every_review_arrives_with_its_day(convert, raw):
    folder = steam(convert, raw, "--k_core", "0")
    reviews = [ast.literal_eval(line) for line in (raw / "steam_reviews.json").open()]
    wanted = {
        (r["username"], r["product_id"], calendar.timegm(time.strptime(r["date"], "%Y-%m-%d")))
        for r in reviews
    }
    got = rows(folder, "inter")
    assert {(user, item, int(when)) for user, item, _, when in got} == wanted
    assert len(got) == len(reviews) == 18
    assert {rating for _, _, rating, _ in got} == {"1.0"}
    stats = stats_of(folder)
    assert stats["dropped"] == {"game without an id": 1}
    assert stats["metadata"]["repeated"] == 0
    assert stats["metadata"]["not_needed"] == 3


def test_games_keep_their_letters_and_lists_are_joined(convert, raw):
    folder = steam(convert, raw, "--k_core", "0")
    by_id = {row[0]: row[1:] for row in rows(folder, "item")}
    assert by_id["444090"][0] == "Paladins\u00ae"
    assert by_id["444090"][3] == "Action, Free to Play, Early Access"
    assert by_id["365670"][3].startswith("Animation &amp; Modeling, Design &amp; Illustration")


def test_raw_reviews_are_cut_to_their_core_by_default(convert, raw):
    assert "no interaction is left" in steam(convert, raw)  # no item has five of 18 reviews
    folder = steam(convert, raw, "--steam_variant=published")
    # The published way filters users only: the one with four reviews goes.
    assert stats_of(folder)["users"] == 2
    assert stats_of(folder)["interactions"] == 14
    # The items that only he reviewed go with him.
    assert {row[0] for row in rows(folder, "item")} == {row[1] for row in rows(folder, "inter")}
    assert stats_of(folder)["items"] == 13 == stats_of(folder)["metadata"]["written"]


HELD = [
    ("an apostrophe", '''u"it's fine"'''),
    ("a quote", """u'so "good"'"""),
    ("both", r"""u'it\'s "good"' """.strip()),
    ("an escape", r"u'caf\xe9\n'"),
    ("None", "None"),
]


@pytest.mark.parametrize(("what", "text"), HELD)
def test_no_review_is_lost_but_in_the_published_variant(convert, raw, what, text):
    source = raw / "steam_reviews.json"
    lines = source.read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace("{", "{u'text': " + text + ", ", 1)
    source.write_text("".join(lines))
    assert stats_of(steam(convert, raw, "--k_core", "0"))["interactions"] == 18
    lost = stats_of(steam(convert, raw, "--k_core", "1", "--steam_variant=published"))
    assert lost["interactions"] == 17
    assert lost["dropped"]["review lost by the published code"] == 1


def test_plain_reviews_survive_the_published_code(raw):
    assert not any(map(lost_by_published_code, (raw / "steam_reviews.json").open()))


def test_days_are_midnight_utc_on_every_machine(monkeypatch):
    for zone in ("UTC", "America/Los_Angeles", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        seconds_of.cache_clear()
        assert seconds_of("2016-02-29") == 1_456_704_000
        assert seconds_of("1969-12-31") == -86_400
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("day", ["2015-02-29", "2016-2-9", "20160229", "None", "2016-W01-1"])
def test_days_that_are_none(day):
    with pytest.raises(ValueError, match=r"date|day|month|isoformat"):
        seconds_of(day)


@pytest.mark.realdata
def test_the_real_slice_has_its_stated_counts_and_the_same_bytes_twice(convert, real, tmp_path):
    made = []
    for out in ("one", "two"):
        folder = convert("steam", "--raw", real / "steam", "--k_core", "0", out=tmp_path / out)
        made.append({p.name: p.read_bytes() for p in folder.iterdir()})
    assert made[0] == made[1]
    stats = stats_of(folder)
    lines = gzip.decompress((real / "steam/steam_reviews.json.gz").read_bytes()).count(b"\n")
    assert (stats["users"], stats["items"]) == (10_369, 3_587)
    assert stats["interactions"] == lines == 126_748
    assert stats["files"][1]["records"] == 32_135
    assert not any(file["malformed"] for file in stats["files"])
