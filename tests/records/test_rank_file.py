"""The per-user file: a round trip, and every kind of damage is told in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.records.rank_file import RankFile, read_rank_file, write_rank_file
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.whole_file import whole_file


def make(users=("u1", "ü2", "A3"), meta=None, **columns):
    count = len(users)
    base = {
        "ranks": np.arange(1, count + 1),
        "ties": np.zeros(count, dtype=np.int64),
        "history_length": np.full(count, 4),
        "target_count": np.zeros(count, dtype=np.int64),
    }
    return RankFile(users=np.array(users, dtype=np.str_), meta=meta or {}, **(base | columns))


def assert_same(a, b):
    for name in ("users", "ranks", "ties", "history_length", "target_count"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.meta == b.meta


token = st.text(min_size=1, max_size=6).filter(str.isprintable)


@settings(max_examples=50, deadline=None)
@given(st.lists(token, unique=True, min_size=1, max_size=8))
def test_round_trip(tmp_path_factory, users):
    path = tmp_path_factory.mktemp("ranks") / "deep" / "run.ranks.npz"
    count = len(users)
    written = make(users, {"model": "HSTU", "seed": 3}, ranks=np.full(count, MISSED))
    write_rank_file(path, written)
    assert_same(read_rank_file(path), written)
    assert [p.name for p in path.parent.iterdir()] == ["run.ranks.npz"]


@pytest.mark.parametrize(
    "change",
    [
        {"ranks": np.array([0, 1, 2])},
        {"ranks": np.array([1.0, 2.0, 3.0])},
        {"ties": np.array([0, 0])},
        {"target_count": np.array([0, -1, 0])},
        {"users": ("a", "a", "b")},
        {"users": ()},
    ],
)
def test_inconsistent_columns_are_refused(change):
    with pytest.raises(ValueError, match=r"must|twice"):
        make(**change)


def test_a_small_file(tmp_path):
    rng = np.random.default_rng(0)
    users = [f"A{n:027d}" for n in rng.choice(10**9, 20_000, replace=False)]
    path = tmp_path / "r.npz"
    write_rank_file(path, make(users, ranks=rng.integers(1, 25_000, 20_000)))
    assert path.stat().st_size < 20 * 20_000


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_told_or_harmless(tmp_path_factory, data):
    """Cut anywhere or with a byte changed: one InputError, or the very same content."""
    path = tmp_path_factory.mktemp("ranks") / "run.npz"
    written = make(meta={"model": "HSTU"})
    write_rank_file(path, written)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place])
    else:
        flipped = whole[place] ^ data.draw(st.integers(1, 255))
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
    try:
        read = read_rank_file(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert_same(read, written)


def test_foreign_files(tmp_path):
    with pytest.raises(
        InputError, match="no such file of ranks: the study's command makes it anew"
    ):
        read_rank_file(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.arange(3))
    np.savez(tmp_path / "other.npz", a=np.arange(3))
    np.savez(tmp_path / "later.npz", header=np.array('{"version": 2, "meta": {}}'))
    np.savez(tmp_path / "odd.npz", header=np.array("[]"))
    for name, words in (
        ("array.npy", "not a readable"),
        ("other.npz", "not a readable"),
        ("odd.npz", "not a readable"),
        ("later.npz", "version 2"),
    ):
        with pytest.raises(InputError, match=words):
            read_rank_file(tmp_path / name)


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "r.npz"
    write_rank_file(path, make())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_rank_file(path, make(meta={"loss": float("nan")}))

    def fail_in_the_middle():
        with whole_file(path) as stream:
            stream.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_in_the_middle()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]
