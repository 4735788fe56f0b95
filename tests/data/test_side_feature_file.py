"""The side-feature file: round trips, alignment by token, damage."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_hstu.data.files.side_feature_file import (
    item_rows,
    read_text_features,
    read_text_header,
    text_hash,
    write_text_features,
)
from recbole_hstu.layers.items.mapped_text import MappedText
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files import whole_file

FULL = Path("/dev/full")
TEXTS = {"b": "two", "a": "one", "Ünï": "three"}
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2) + 1


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.lsa.safetensors"
    write_text_features(path, TEXTS, VECTORS, {"encoder": "lsa"})
    return path


def test_round_trip(file):
    features = read_text_features(file)
    assert features.tokens == ["b", "a", "Ünï"]
    assert features.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.vectors, VECTORS)
    assert features.provenance["encoder"] == "lsa"
    assert bytes(features.text_hashes[1]) == text_hash("one")
    assert features.dim == 2


def test_equal_input_gives_equal_bytes(file, tmp_path):
    again = tmp_path / "again.safetensors"
    write_text_features(again, dict(TEXTS), VECTORS.copy(), {"encoder": "lsa"})
    assert again.read_bytes() == file.read_bytes()


def test_content_hash_follows_vectors_and_tokens_not_provenance(file, tmp_path):
    first = read_text_header(file).content_hash

    def other(texts, vectors, provenance):
        path = tmp_path / "other.safetensors"
        write_text_features(path, texts, vectors, provenance)
        return read_text_header(path).content_hash

    assert other(TEXTS, VECTORS, {"encoder": "x"}) == first
    assert other(TEXTS, VECTORS + 1, {"encoder": "lsa"}) != first
    assert other({"b": "two", "c": "one", "Ünï": "three"}, VECTORS, {}) != first


def table_of(features, tokens):
    rows = torch.from_numpy(item_rows(features, tokens, zeros=True))
    return MappedText.of_file(torch.from_numpy(features.vectors), rows)[:].numpy()


def test_a_table_goes_by_token(file):
    table = table_of(read_text_features(file), np.array(["[PAD]", "Ünï", "b"]))
    np.testing.assert_array_equal(table, np.float32([[0, 0], [5, 6], [1, 2]]))
    assert table.dtype == np.float32


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)
@given(data=st.data())
def test_a_table_of_any_order_and_any_subset(tmp_path, data):
    label = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
    tokens = data.draw(st.lists(label, min_size=1, max_size=20, unique=True))
    tokens = [t for t in tokens if t != "[PAD]"] or ["x"]
    vectors = np.random.default_rng(0).normal(size=(len(tokens), 3)).astype(np.float32)
    path = tmp_path / "any.safetensors"
    write_text_features(path, dict.fromkeys(tokens, "t"), vectors, {})
    asked = data.draw(st.permutations(tokens))[: data.draw(st.integers(1, len(tokens)))]
    table = table_of(read_text_features(path), ["[PAD]", *asked])
    assert not table[0].any()
    for row, token in zip(table[1:], asked, strict=True):
        np.testing.assert_array_equal(row, vectors[tokens.index(token)])


def test_float16_on_disk_is_float16_in_memory(tmp_path):
    path = tmp_path / "half.safetensors"
    write_text_features(path, TEXTS, VECTORS / 3, {}, storage_dtype="float16")
    features = read_text_features(path)
    assert features.vectors.dtype == np.float16
    table = table_of(features, ["[PAD]", "a"])
    assert table.dtype == np.float16
    assert not table[0].any()
    np.testing.assert_allclose(table[1], VECTORS[1] / 3, rtol=1e-3)


def test_missing_items_are_named_or_counted(file, caplog):
    features = read_text_features(file)
    tokens = ["[PAD]", "a", *(f"n{i}" for i in range(12))]
    with pytest.raises(InputError, match=r"12 of 13 items .* n0, .*n9, \.\.\. \(2 more\)") as error:
        item_rows(features, tokens)
    assert "n10" not in str(error.value) and "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        table = table_of(features, tokens)
    assert "12 of 13 items" in caplog.text
    assert table[1].any() and not table[2:].any()


def test_tokens_without_padding_or_twice_are_refused(file):
    features = read_text_features(file)
    with pytest.raises(InputError, match="PAD"):
        item_rows(features, ["a", "b"])
    with pytest.raises(InputError, match="twice: a"):
        item_rows(features, ["[PAD]", "a", "a"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_never_written(file, value):
    before = file.read_bytes()
    bad = VECTORS.copy()
    bad[1, 0] = value
    with pytest.raises(InputError, match="not finite: a"):
        write_text_features(file, TEXTS, bad, {})
    with pytest.raises(InputError, match="float16 vectors are not finite: Ünï"):
        write_text_features(file, TEXTS, VECTORS * 1.2e4, {}, storage_dtype="float16")
    assert file.read_bytes() == before
    assert not list(file.parent.glob("*.part"))


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line_and_the_file_stays(file, monkeypatch):
    def on_full_disk(path):
        part = path.with_name(f".{path.name}.full.part")
        part.symlink_to(FULL)
        return part, part.open("wb")

    monkeypatch.setattr(whole_file, "_new_part", on_full_disk)
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"cannot be written .*No space left on device") as error:
        write_text_features(file, TEXTS, VECTORS, {})
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_wrong_shape_is_refused(tmp_path):
    for vectors in (VECTORS[:2], VECTORS[:, :0], VECTORS[0]):
        with pytest.raises(InputError, match="3 items"):
            write_text_features(tmp_path / "x.safetensors", TEXTS, vectors, {})
    assert not (tmp_path / "x.safetensors").exists()


def test_any_cut_file_is_a_clear_error(file):
    whole = file.read_bytes()
    for length in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"toy\.lsa\.safetensors"):
            read_text_features(file)


def test_a_vector_spoilt_on_disk_is_found(file):
    whole = file.read_bytes()
    spoilt = whole.replace(np.float32(3).tobytes(), np.float32(np.nan).tobytes(), 1)
    assert spoilt != whole
    file.write_bytes(spoilt)
    with pytest.raises(InputError, match="not finite: a"):
        read_text_features(file)


def test_a_token_twice_in_the_file(file):
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"ba\xc3", b"aa\xc3"))
    with pytest.raises(InputError, match="tokens twice: a"):
        read_text_features(file)


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(InputError, match="recbole-hstu encode"):
        read_text_features(tmp_path / "none.safetensors")
    from safetensors.numpy import save_file

    save_file({"vectors": VECTORS}, str(tmp_path / "model.safetensors"))
    with pytest.raises(InputError, match="another kind"):
        read_text_features(tmp_path / "model.safetensors")
    np.save(tmp_path / "v.npy", VECTORS)
    for name in ("none.safetensors", "model.safetensors", "v.npy"):
        with pytest.raises(InputError, match=r"name a file of .*write_text_features") as error:
            read_text_features(tmp_path / name)
        assert "delete" not in str(error.value)  # what somebody has named
