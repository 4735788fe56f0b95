"""Options, the store, lsa, and the way from `.item` to the file."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from embeddings_server import config as openai_config
from text_files import encoder_of, texts_of, write_items

from recbole_hstu.data.files.side_feature_file import item_rows, read_text_features
from recbole_hstu.encoders import TextOptions, ensure_text_features
from recbole_hstu.encoders.encode_items import file_name
from recbole_hstu.encoders.lsa import LSAEncoder
from recbole_hstu.encoders.vector_cache import VectorCache, cache_folder
from recbole_hstu.encoders.wanted_rows import WantedRows
from recbole_hstu.layers.items.mapped_text import MappedText
from recbole_hstu.support.errors import InputError

ITEM_TEXT = {"fields": ["title"]}
LSA = {"item_text": ITEM_TEXT, "text_dimensions": 8, "show_progress": False}


def test_importing_the_package_loads_no_encoder_library():
    code = (
        "import sys, recbole_hstu.encoders as e; "
        "print(sorted({'transformers', 'openai', 'sklearn', 'tiktoken'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("encoder", ["huggingface", "openai"])
def test_a_library_that_is_not_installed_is_a_clear_error(encoder, monkeypatch):
    module = {"huggingface": "transformers", "openai": "openai"}[encoder]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'lsa needs nothing.*pip install "recbole-hstu\['):
        encoder_of({"text_encoder": encoder})


def test_defaults_by_encoder():
    assert TextOptions.from_mapping({}).text_dimensions == 256
    blair = TextOptions.from_mapping({"text_encoder": "huggingface", "text_max_length": None})
    assert blair.text_model == "hyp1231/blair-roberta-base"
    assert (blair.text_pooling, blair.text_max_length, blair.text_normalize) == ("cls", 512, False)
    large = TextOptions.from_mapping({"text_encoder": "openai", "learning_rate": 1})
    assert (large.text_model, large.text_dimensions) == ("text-embedding-3-large", 768)
    other = TextOptions.from_mapping({"text_encoder": "openai", "text_model": "bge-m3"})
    assert other.text_dimensions is None


@pytest.mark.parametrize(
    "config",
    [
        {"text_encoder": "bert"},
        {"text_pooling": "max"},
        {"text_encoder": "openai", "text_max_length": 0},
        {"text_batch_size": True},
        {"text_dimensions": "768"},
        {"text_normalize": "yes"},
        {"text_missing": "skip"},
        {"text_model": "bert-base-uncased"},
        {"text_pooling": "mean"},
        {"text_encoder": "openai", "text_dtype": "float16"},
        {"text_encoder": "huggingface", "text_dimensions": 64},
        {"text_encoder": "openai", "text_base_url": "localhost:80"},
    ],
)
def test_bad_settings_are_refused_by_name(config):
    with pytest.raises(InputError, match=list(config)[-1]):
        TextOptions.from_mapping(config)


def name_of(config):
    options = TextOptions.from_mapping(config)
    return file_name("toy", options, WantedRows({"i": "text"}, None, options, LSAEncoder))


def test_other_settings_give_another_file():
    names = [
        name_of(config)
        for config in (
            {},
            {"text_dimensions": 64},
            {"text_normalize": True},
            {"text_encoder": "huggingface"},
            {"text_encoder": "huggingface", "text_pooling": "mean"},
            {"text_encoder": "huggingface", "text_revision": "abc"},
            {"text_encoder": "openai"},
            {"text_encoder": "openai", "text_base_url": "http://127.0.0.1:1/v1"},
            {"text_encoder": "huggingface", "text_model": "a/bge"},
            {"text_encoder": "huggingface", "text_model": "b/bge"},
        )
    ]
    assert names[0] == "toy.lsa.safetensors"
    assert names[3] == "toy.blair-roberta-base.safetensors"
    assert names[6] == "toy.text-embedding-3-large.safetensors"
    assert names[8] == "toy.a--bge.safetensors"
    assert len(set(names)) == len(names)
    same = {"text_batch_size": 3, "text_device": "cpu", "text_encoder": "huggingface"}
    assert name_of(same) == names[3]


def test_lsa_is_deterministic_and_indifferent_to_order_and_repeats():
    texts = texts_of(60)
    encoder = encoder_of(LSA)
    table = encoder.encode(texts)
    assert table.shape == (60, 8) and table.dtype == np.float32
    np.testing.assert_array_equal(encoder.encode(texts[::-1] + texts[:5])[:60][::-1], table)
    np.testing.assert_array_equal(encoder_of(LSA).encode(texts), table)


def test_lsa_puts_like_with_like():
    texts = ["guitar strings steel", "guitar strings nylon", "piano bench", "piano bench padded"]
    table = encoder_of({"text_dimensions": 2}).encode(texts)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    same, other = table[0] @ table[1], abs(table[0] @ table[2])
    assert same > 0.9 > 0.1 > other


def test_lsa_tells_what_it_cannot_do(caplog):
    with caplog.at_level(logging.WARNING):
        table = encoder_of({}).encode(["one two", "two three", ""])
    assert table.shape == (3, 2)
    assert "at most 2 dimensions, not text_dimensions 256" in caplog.text
    assert "1 texts have no word" in caplog.text
    with pytest.raises(InputError, match="no word"):
        encoder_of({}).encode(["", "! ?"])


def test_lsa_tells_that_all_texts_are_alike(caplog, recwarn):
    table = encoder_of({}).encode(["red thing", "thing red", "red thing"])
    assert np.isfinite(table).all() and not recwarn.list
    assert "all texts are alike, so that their vectors tell items nothing" in caplog.text
    caplog.clear()
    encoder_of({}).encode(["red thing", "blue thing"])
    assert "alike" not in caplog.text


def test_a_file_is_made_once_and_again_when_a_text_changes(tmp_path, caplog):
    folder, out = write_items(tmp_path / "toy", texts_of(30)), tmp_path / "out"
    caplog.set_level(logging.INFO)
    path = ensure_text_features("toy", folder, LSA, output_folder=out)
    assert path.parent == out and "is not there; encoding with lsa" in caplog.text
    assert [p.name for p in folder.iterdir()] == ["toy.item"]
    first, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert ensure_text_features("toy", folder, LSA, output_folder=out) == path
    assert path.stat().st_mtime_ns == stamp
    write_items(folder, [*texts_of(29), "banjo"])
    caplog.clear()
    ensure_text_features("toy", folder, LSA, output_folder=out)
    assert "1 of 30 items are new" in caplog.text
    assert path.read_bytes() != first
    write_items(folder, texts_of(30))
    ensure_text_features("toy", folder, LSA, output_folder=out)
    assert path.read_bytes() == first


def test_a_filtered_data_set_has_the_vectors_of_the_whole(tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(30))
    some = ["[PAD]", "i4", "i2"]
    part = ensure_text_features("toy", folder, LSA, tokens=some, output_folder=tmp_path / "a")
    whole = ensure_text_features("toy", folder, LSA, output_folder=tmp_path / "b")
    assert part.read_bytes() == whole.read_bytes()
    features = read_text_features(part)
    row = item_rows(features, some)[1]
    np.testing.assert_array_equal(features.vectors[row], read_text_features(whole).vectors[4])


def without_text(tmp_path):
    texts = texts_of(10)
    texts[3] = ""
    return write_items(tmp_path / "toy", texts)


def test_a_fit_is_on_the_texts_of_today_whoever_asks(tmp_path):
    folder, some = write_items(tmp_path / "toy", texts_of(30)), ["i4", "i2"]

    def bytes_now():
        return ensure_text_features("toy", folder, LSA, tokens=some).read_bytes()

    first = bytes_now()
    for others in ([*texts_of(29), "banjo"], texts_of(29)):  # another text changes, or goes
        write_items(folder, others)
        changed = bytes_now()
        assert changed != first
        shutil.rmtree(folder)
        write_items(folder, others)
        assert bytes_now() == changed


def test_items_without_text(tmp_path, caplog):
    folder = without_text(tmp_path)
    tokens = ["[PAD]", "i1", "i3", "unknown"]

    def table(missing):
        config = {**LSA, "text_missing": missing}
        path = ensure_text_features("toy", folder, config, tokens=tokens)
        features = read_text_features(path)
        rows = torch.from_numpy(item_rows(features, tokens, zeros=missing == "zero"))
        return MappedText.of_file(torch.from_numpy(features.vectors), rows)[:]

    with pytest.raises(InputError, match="2 of 3 items have no text: i3, unknown"):
        table("error")
    assert not list(folder.glob("*.safetensors"))
    with caplog.at_level(logging.WARNING):
        assert table("empty")[1].any()
    assert "2 of 3 items have no text: i3, unknown" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert not table("zero")[2:].any()
    assert "2 of 3 items have no text" in caplog.text
    assert table("empty")[1].any()


def test_zeros_for_items_that_the_item_file_lacks_have_a_file_of_their_own(tmp_path):
    folder, tokens = write_items(tmp_path / "toy", texts_of(10)), ["[PAD]", "i1", "unknown"]
    file = ensure_text_features("toy", folder, LSA, tokens=tokens)  # what a trained model reads
    before = file.stat().st_mtime_ns
    config = {**LSA, "text_missing": "zero"}
    zeros = ensure_text_features("toy", folder, config, tokens=tokens)
    assert "-zero" in zeros.name and "unknown" not in read_text_features(zeros).tokens
    assert ensure_text_features("toy", folder, config) == file  # all of the `.item` file have one
    assert file.stat().st_mtime_ns == before


def test_zeros_take_the_place_of_a_vector_of_the_empty_text(server, tmp_path):
    """The openai encoder sends a space for the empty text, which has a vector like any other."""
    pytest.importorskip("openai")
    folder = without_text(tmp_path)

    def rows(missing, **more):
        settings = openai_config(server, text_missing=missing)
        return read_text_features(ensure_text_features("toy", folder, settings, **more)).tokens

    assert "i3" in rows("empty")
    file = ensure_text_features("toy", folder, openai_config(server))
    before = file.stat()
    assert rows("zero") == [f"i{n}" for n in range(10) if n != 3]
    assert file.stat() == before  # runs with either may stand beside each other
    write_items(folder, [*texts_of(5), "", *texts_of(4)])  # a text goes
    assert "i5" not in rows("zero", tokens=["i1", "i5"])


def test_normalize_and_float16(tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(30))
    plain = read_text_features(ensure_text_features("toy", folder, LSA)).vectors
    unit = {**LSA, "text_normalize": True, "text_storage_dtype": "float16"}
    features = read_text_features(ensure_text_features("toy", folder, unit))
    assert features.provenance["normalized"] is True
    expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(features.vectors.astype(np.float32), expected, atol=1e-3)


def test_a_damaged_file_in_the_place_of_ours_is_made_anew_once_it_is_gone(tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(5))
    file = ensure_text_features("toy", folder, LSA)
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    with pytest.raises(InputError, match=r"not a usable side-feature .*; delete it, and it is"):
        ensure_text_features("toy", folder, LSA)
    file.unlink()
    assert ensure_text_features("toy", folder, LSA).read_bytes() == whole


def test_an_output_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(5))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        ensure_text_features("toy", folder, LSA, output_folder=tmp_path / "file" / "deep")


def test_the_store_keeps_and_finds(own_cache):
    store = VectorCache({"model": "m"})
    assert store.find(["a"]) == {}
    store.add(["a", "b"], np.float32([[1, 2], [3, 4]]))
    store.add(["b", "c"], np.float32([[9, 9], [5, 6]]))  # who came first stays
    found = VectorCache({"model": "m"}).find(["c", "b", "x"])
    assert set(found) == {"b", "c"}
    np.testing.assert_array_equal(found["b"], [3, 4])
    assert VectorCache({"model": "other"}).find(["a"]) == {}
    assert store.path.is_relative_to(own_cache)


def test_the_store_refuses_another_width_and_damage():
    store = VectorCache({"model": "m"})
    store.add(["a"], np.float32([[1, 2]]))
    with pytest.raises(InputError, match="had 2 numbers and now have 3"):
        store.add(["b"], np.float32([[1, 2, 3]]))
    assert store.find(["b"]) == {}
    store.path.write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(InputError, match=r"damaged.*delete this file"):
        store.find(["a"])


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("RECBOLE_HSTU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "recbole_hstu"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "recbole_hstu")


def test_a_cache_folder_that_cannot_be_made_is_a_clear_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECBOLE_HSTU_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="RECBOLE_HSTU_CACHE"):
        VectorCache({"model": "m"})
