"""What RecBole reads back is what went in; a kill leaves no half-written data set."""

from __future__ import annotations

import csv
import json
import random
import signal
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_converters.atomic import dataset_lock, replacing, write_rows
from dataset_converters.convert import _STOCK_MISSING, Options, convert
from dataset_converters.errors import ConversionError
from dataset_converters.reading.clean_text import is_clean_token, plain_text
from dataset_converters.reading.lines import find_file, read_raw_lines
from dataset_converters.sources.own_data import Columns, open_source

read_atomic = pytest.importorskip("recbole_hstu.data.files.atomic_file").read_atomic

tokens = st.text(st.characters(), min_size=1).filter(is_clean_token) | st.sampled_from(
    ["NA", "null", '"', '""', " ", "1e5", "007", "nan", "#N/A", "'", "\u2028", "\ufeff"]
)
texts = st.text(st.characters()) | st.text('"\t\n\r, \x00\u2028ab', max_size=20) | tokens
times = st.integers(-(2**63), 2**63 - 1)
events = st.lists(st.tuples(tokens, tokens, times), min_size=1, max_size=12)


def make(folder: Path, events, item_texts, names=("title", "brand")) -> Path:
    """A data set of one's own with these events and texts of items."""
    inter, items = folder / "x.jsonl", folder / "items.jsonl"
    keys = ("user_id", "item_id", "timestamp")
    inter.write_text("".join(json.dumps(dict(zip(keys, e, strict=True))) + "\n" for e in events))
    records = [{"item_id": i, **dict(zip(names, t, strict=True))} for i, t in item_texts.items()]
    items.write_text("".join(json.dumps(r) + "\n" for r in records))
    columns = Columns(text={name: name for name in names})
    source = open_source(inter, items, columns, time_unit="s", max_malformed=0.0)
    target = folder / "dataset" / "x"
    with dataset_lock(target):
        convert(target, source, Options())
    return target


def stock_read(path: Path) -> pd.DataFrame:
    """RecBole's own reading of one atomic file, by its own code."""
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureSource

    config = defaultdict(lambda: None, field_separator="\t", seq_separator=" ", encoding="utf-8")
    reader = SimpleNamespace(
        config=config,
        logger=SimpleNamespace(debug=lambda *_: None, warning=lambda *_: None),
        field2source={},
        field2type={},
        field2seqlen={},
        field2bucketnum={},
        _get_load_and_unload_col=lambda source: (None, None),
    )
    kind = FeatureSource.INTERACTION if path.suffix == ".inter" else FeatureSource.ITEM
    return Dataset._load_feat(reader, path, kind)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=events, data=st.data())
def test_what_is_read_back_is_what_went_in(events, data, tmp_path_factory):
    item_texts = {item: data.draw(st.tuples(texts, texts)) for _, item, _ in events}
    folder = make(tmp_path_factory.mktemp("any"), events, item_texts)
    wanted = sorted(events, key=lambda e: (e[0], e[2]))
    wanted_texts = [
        (item, *map(plain_text, item_texts[item])) for item in dict.fromkeys(e[1] for e in events)
    ]

    inter = read_atomic(folder / "x.inter", time_field="timestamp")
    assert inter.timestamp.dtype == "int64"
    assert list(zip(inter.user_id, inter.item_id, inter.timestamp, strict=True)) == wanted
    item = read_atomic(folder / "x.item").fillna("")
    assert list(item.itertuples(index=False, name=None)) == wanted_texts

    stock = stock_read(folder / "x.inter")
    seen = [u if u not in _STOCK_MISSING else None for u, _, _ in wanted]
    assert [u if isinstance(u, str) else None for u in stock.user_id] == seen
    for got, (_, _, time_) in zip(stock.timestamp, wanted, strict=True):
        assert got == float(time_)
    stock = stock_read(folder / "x.item")
    for title, row in zip(stock.title, wanted_texts, strict=True):
        assert " ".join(title) == ("" if row[1] in _STOCK_MISSING else row[1])


def test_a_very_long_text_is_kept_whole_and_warned_of(tmp_path, caplog):
    text = 'word "quoted" ' * 20_000
    folder = make(tmp_path, [("u", "i", 1)], {"i": (text, "")})
    assert read_atomic(folder / "x.item").title[0] == text.strip()
    assert "RecBole's own reader refuses fields" in caplog.text


def test_the_ids_stock_recbole_takes_for_missing(tmp_path, caplog):
    make(tmp_path, [("NA", "i", 2**60), ("u", "null", 1)], {"i": ("", ""), "null": ("", "")})
    assert "takes these ids for missing: NA, null" in caplog.text
    assert "2**53" in caplog.text
    path = tmp_path / "all.inter"
    write_rows(path, ["user_id:token", "item_id:token"], [(t, "i") for t in [*_STOCK_MISSING, "u"]])
    assert stock_read(path).user_id.notna().sum() == 1


@pytest.mark.parametrize(
    "category",
    ["Electronics_few", pytest.param("Electronics_sample", marks=pytest.mark.realdata)],
)
def test_recbole_gives_the_source_s_sequences_back(
    category, request, tmp_path, convert, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["test"])
    monkeypatch.chdir(tmp_path)
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    few = category == "Electronics_few"
    raw = request.getfixturevalue("data" if few else "real") / ("" if few else "amazon2023")
    folder = convert("amazon2023", "--category", category, "--raw", raw)
    fields = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
    settings = {"data_path": str(folder.parent), "load_col": fields, "train_neg_sample_args": None}
    dataset = Dataset(Config(model="SASRec", dataset=folder.name, config_dict=settings))
    frame = dataset.inter_feat  # not yet an Interaction: times are float64 still
    got = defaultdict(list)
    users = dataset.id2token("user_id", frame.user_id.to_numpy())
    items = dataset.id2token("item_id", frame.item_id.to_numpy())
    for user, item, when in zip(users, items, frame.timestamp, strict=True):
        got[user].append((item, int(when)))
    wanted = defaultdict(list)
    source = find_file(raw, f"{category}.csv")
    lines = [line.decode().strip() for line in read_raw_lines(source)]
    for user, item, _, when in csv.reader(lines[1:]):
        wanted[user].append((item, int(when)))
    # Each user's rows are in the order of time in the source, so no sorting is needed here.
    assert got == wanted


@pytest.fixture
def many(data, tmp_path):
    """Enough real lines under new ids for a conversion to be killed at."""
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = (data / "steam_reviews.json").read_text().splitlines(keepends=True)
    with (raw / "steam_reviews.json").open("w") as file:
        for copy in range(700):
            file.writelines(
                line.replace("'user", f"'{copy}user", 2).replace(f"'{copy}username", "'username")
                for line in lines
            )
    (raw / "steam_games.json.gz").write_bytes((data / "steam_games.json.gz").read_bytes())
    return raw


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_kill_at_any_moment_leaves_whole_files_or_none(command, many, tmp_path):
    def start(out, *more):
        return command("steam", "--raw", many, "--out", out, *more)

    reference, out = tmp_path / "reference", tmp_path / "dataset"
    begun = time.monotonic()
    assert start(reference).wait() == 0
    whole = time.monotonic() - begun
    wanted = bytes_of(reference / "steam")
    rng = random.Random(3)
    for _ in range(6):
        process = start(out)
        time.sleep(whole * rng.uniform(0.4, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (out / "steam").exists():
            assert bytes_of(out / "steam") == wanted
    assert start(out).wait() == 0
    assert bytes_of(out / "steam") == wanted
    assert {p.name for p in out.iterdir()} == {"steam", ".steam.lock"}


class _Killed(BaseException):
    """Stands for the end of the process: nothing is tidied up after it."""


@pytest.mark.parametrize("step", range(7))
def test_a_kill_between_any_two_renames_is_mended(tmp_path, monkeypatch, step):
    """Every rename or removal of the replacement is made the last thing the process does."""
    folder = tmp_path / "x"
    with dataset_lock(folder), replacing(folder) as new:
        (new / "x.inter").write_text("old")
    (folder / "x.vectors").write_text("kept")
    left = [step]

    def counted(real):
        def call(*args, **kwargs):
            if left[0] == 0:
                raise _Killed
            left[0] -= 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("dataset_converters.atomic.Path.rename", counted(Path.rename))
        patch.setattr("dataset_converters.atomic._carry_over", counted(_carry_over()))
        patch.setattr("dataset_converters.atomic.shutil.rmtree", counted(_rmtree()))
        patch.setattr("dataset_converters.atomic.Path.mkdir", counted(Path.mkdir))
        with pytest.raises(_Killed), dataset_lock(folder), replacing(folder) as new:
            (new / "x.inter").write_text("new")
    with dataset_lock(folder):
        state = {p.name: p.read_text() for p in folder.iterdir()}
    assert state in (
        {"x.inter": "old", "x.vectors": "kept"},
        {"x.inter": "new", "x.vectors": "kept"},
    )
    assert {p.name for p in tmp_path.iterdir()} == {"x", ".x.lock"}


def test_a_disk_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(_):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("dataset_converters.place_lock.FileLock.acquire", refuse)
    message = r"\.x\.lock: cannot be written \(No locks available\)"
    with pytest.raises(ConversionError, match=message), dataset_lock(tmp_path / "x"):
        pass


def _carry_over():
    from dataset_converters import atomic

    return atomic._carry_over


def _rmtree():
    import shutil

    return shutil.rmtree
