"""Data sets made on demand, by their name."""

from __future__ import annotations

import gzip
import logging
import shutil
import threading

import pytest
from converted_files import stats_of

from dataset_converters import ConversionError, convert_by_name
from dataset_converters.downloads import fetcher


@pytest.fixture
def raw(data, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    shutil.copy(data / "Electronics_few.csv", folder / "Musical_Instruments.csv")
    shutil.copy(
        data / "meta_Electronics_few.jsonl.gz", folder / "meta_Musical_Instruments.jsonl.gz"
    )
    return folder


@pytest.fixture
def mirror(server, monkeypatch, tmp_path, raw):
    """The local server in the place of the publishers."""
    url, manners = server
    base = url.rsplit("/", 1)[0]
    text = (
        "amazon2023:\n"
        f"  ratings: {{urls: ['{base}/{{category}}.csv']}}\n"
        f"  metadata: {{urls: ['{base}/meta_{{category}}.jsonl']}}\n"
    )
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    original = fetcher._load_entries
    monkeypatch.setattr(fetcher, "_load_entries", lambda extra: original(path))
    return manners


def test_a_known_name_is_made_from_files_at_hand(raw, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert convert_by_name("musical_instruments", tmp_path / "d", raw=raw)
    folder = tmp_path / "d" / "musical_instruments"
    assert stats_of(folder)["interactions"] == 26
    assert "57,439 users, 24,587 items, 511,835 interactions" in caplog.messages[-1]
    assert "they differ" in caplog.messages[-1]
    before = (folder / "musical_instruments.inter").stat().st_mtime_ns
    assert convert_by_name("musical_instruments", tmp_path / "d", raw=raw)
    assert (folder / "musical_instruments.inter").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "shop", "Steam", "Books"])
def test_other_names_are_left_alone(tmp_path, name):
    assert not convert_by_name(name, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_it_says_what_it_downloads_and_how_large_it_is(mirror, tmp_path, data, caplog):
    mirror.body = (data / "Electronics_few.csv").read_bytes()
    caplog.set_level(logging.INFO)
    with pytest.raises(ConversionError, match="malformed"):
        # The server has one file only, so the metadata is none.
        convert_by_name("video_games", tmp_path / "d")
    cached = tmp_path / "d" / "raw" / "amazon2023" / "Video_Games.csv"
    assert cached.read_bytes() == mirror.body
    assert "/Video_Games.csv (0.0 MB)" in caplog.text
    assert "/meta_Video_Games.jsonl (0.0 MB)" in caplog.text
    assert not (tmp_path / "d" / "video_games").exists()
    # With the true metadata in the cache, no further request is made.
    packed = (data / "meta_Electronics_few.jsonl.gz").read_bytes()
    (cached.parent / "meta_Video_Games.jsonl").write_bytes(gzip.decompress(packed))
    mirror.requests.clear()
    assert convert_by_name("video_games", tmp_path / "d")
    assert mirror.requests == []


def test_a_file_of_ones_own_is_refused_before_anything_is_downloaded(mirror, tmp_path):
    own = tmp_path / "d" / "video_games" / "video_games.item"
    own.parent.mkdir(parents=True)
    own.write_text("item_id:token\nb1\n")
    with pytest.raises(ConversionError, match="no conversion wrote this file"):
        convert_by_name("video_games", tmp_path / "d")
    assert mirror.requests == []
    assert own.is_file()


def test_offline_use_makes_no_request(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConversionError, match="offline use is asked for"):
        convert_by_name("video_games", tmp_path / "d")
    assert mirror.requests == []


def test_many_processes_at_once_make_one_data_set(raw, tmp_path):
    results = []

    def make():
        results.append(convert_by_name("musical_instruments", tmp_path / "d", raw=raw))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert stats_of(tmp_path / "d" / "musical_instruments")["interactions"] == 26


def test_the_paper_s_table_is_explained():
    from dataset_converters.sources.paper_counts import compare

    settings = {"category": "Video_Games", "limit": None}
    stats = {"users": 94_762, "items": 25_612, "interactions": 814_586}
    stats |= {"source": "amazon2023", "settings": settings, "dropped": {}}
    assert "the research code read the first data row as part of the header" in compare(stats)
    assert compare(stats | {"interactions": 814_585}).endswith("they agree")
    assert "--limit" in compare(stats | {"settings": settings | {"limit": 5}, "users": 1})
    assert compare(stats | {"settings": {"category": "Books"}}) is None


def test_a_sources_file_with_a_mistake_is_one_line(convert, tmp_path):
    path = tmp_path / "mirror.yaml"
    for text in ("amazon2023: {rating: {urls: [x]}}", "- x", "a: [", "steam: 3"):
        path.write_text(text)
        error = convert("steam", "--sources", path)
        assert error.startswith(f"error: {path}")


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("{urls: https://x/a.gz}", "urls must be a list"),
        ("{urls: [ftp://x/a.gz]}", "urls must be a list"),
        ("{urls: []}", "urls must be a list"),
        ("{urls: ['https://me:a/b@x/a.gz']}", "urls must be a list"),
        ("{bytes: many}", "bytes: 'many' is no int"),
        ("{sha256: 5}", "sha256: 5 is no str"),
        ("{size: 5}", "size: unknown"),
        ("{urls: ['https://x/{name}.gz']}", "may hold no braces"),
        ("{file: 'a}'}", "may hold no braces"),
    ],
)
def test_a_sources_entry_with_a_mistake_is_one_line(convert, tmp_path, entry, wrong):
    path = tmp_path / "mirror.yaml"
    path.write_text(f"steam: {{reviews: {entry}}}")
    error = convert("steam", "--sources", path)
    assert error.startswith(f"error: {path}: 'steam: reviews:' {wrong}")
    assert error.count("\n") <= 1
