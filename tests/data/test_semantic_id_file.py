"""The semantic-id file: round trips, alignment by token, files that no model may read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recbole_hstu.data.files.semantic_id_file import (
    read_quantiser,
    read_semantic_ids,
    semantic_ids_of,
    semantic_ids_path,
    write_semantic_ids,
)
from recbole_hstu.data.files.side_feature_file import read_text_header, write_text_features
from recbole_hstu.support.errors import InputError

TOKENS = ["b", "a", "Ünï"]
CODES = np.int32([[0, 3, 0], [1, 2, 0], [0, 3, 1]])
SIZES = (2, 4, 2)


def data_of(*tokens):
    """As much of a data set as the reader asks for."""
    return SimpleNamespace(iid_field="item", field2id_token={"item": np.array(["[PAD]", *tokens])})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.rkmeans.ids.safetensors"
    books = {"codebooks": np.eye(2, dtype=np.float32)}
    write_semantic_ids(path, TOKENS, CODES, SIZES, {"method": "rkmeans"}, quantiser=books)
    return path


def test_round_trip_goes_by_token(file):
    ids = read_semantic_ids(file, data_of("Ünï", "b"))
    assert ids.codes.tolist() == [[-1, -1, -1], [0, 3, 1], [0, 3, 0]]
    assert ids.level_sizes == SIZES
    quantiser, provenance = read_quantiser(file)
    np.testing.assert_array_equal(quantiser["codebooks"], np.eye(2))
    assert provenance["method"] == "rkmeans" and len(provenance["content_hash"]) == 64


def test_equal_input_gives_equal_bytes(file):
    before = file.read_bytes()
    books = {"codebooks": np.eye(2, dtype=np.float32)}
    write_semantic_ids(file, TOKENS, CODES, SIZES, {"method": "rkmeans"}, quantiser=books)
    assert file.read_bytes() == before


def test_a_file_of_another_data_set_names_ten_items(file):
    with pytest.raises(InputError, match=r"12 of 13 items .* n0, .*n9, \.\.\. \(2 more\)"):
        read_semantic_ids(file, data_of("a", *(f"n{i}" for i in range(12))))


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([[0, 3, 0], [1, 4, 0], [0, 3, 1]], r"out of range for 1 items, such as a: \[1, 4, 0\]"),
        ([[0, 3, 0], [1, -1, 0], [0, 3, 1]], "out of range"),
        ([[0, 3, 0], [1, 2, 0], [0, 3, 0]], r"1 items .* such as b, Ünï with \[0, 3, 0\]"),
        ([[0, 3], [1, 2], [0, 1]], "3 levels"),
    ],
)
def test_bad_codes_are_neither_written_nor_read(file, codes, words):
    before = file.read_bytes()
    with pytest.raises(InputError, match=words):
        write_semantic_ids(file, TOKENS, np.int32(codes), SIZES, {})
    assert file.read_bytes() == before
    spoilt = before.replace(CODES.tobytes(), np.int32(codes).tobytes().ljust(CODES.nbytes), 1)
    file.write_bytes(spoilt)
    if len(codes[0]) == 3:
        with pytest.raises(InputError, match=words):
            read_semantic_ids(file, data_of("a"))


def test_files_that_are_no_semantic_ids(tmp_path, file):
    with pytest.raises(InputError, match="recbole-hstu ids"):
        read_semantic_ids(tmp_path / "none.safetensors", data_of("a"))
    write_text_features(tmp_path / "x.lsa.safetensors", {"a": "one"}, np.ones((1, 2)), {})
    with pytest.raises(InputError, match=r"another kind.*; name a file of recbole-hstu ids$"):
        read_semantic_ids(tmp_path / "x.lsa.safetensors", data_of("a"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="not a usable semantic-id file"):
        read_semantic_ids(file, data_of("a"))


@pytest.mark.parametrize("named", ["rkmeans", "own.safetensors"])
def test_ids_of_other_vectors_than_there_are_now_are_told_of(in_empty_folder, caplog, named):
    """Changed texts have their vectors made anew by themselves, ids stay."""
    config = {"semantic_ids": named, "output_path": "dataset", "dataset": "toy"}
    config["text_features_file"] = None
    path, vectors = semantic_ids_path(config), Path("dataset/toy/toy.lsa.safetensors")
    vectors.parent.mkdir(parents=True)
    write_text_features(vectors, dict.fromkeys(TOKENS, "old"), np.eye(3), {})
    made_from = {"file": vectors.name, "content_hash": read_text_header(vectors).content_hash}
    write_semantic_ids(path, TOKENS, CODES, SIZES, {"text_features": made_from})
    semantic_ids_of(config, data_of("a"))
    assert not caplog.text
    write_text_features(vectors, dict.fromkeys(TOKENS, "new"), np.eye(3)[::-1], {})
    semantic_ids_of(config, data_of("a"))
    assert f"{path}: was made when {vectors} held other items or vectors" in caplog.text
    assert "recbole-hstu ids --dataset=toy --" in caplog.text
    assert f"only items were added, give them codes with --quantiser={path}" in caplog.text
    caplog.clear()
    vectors.rename("mine.safetensors")  # those of another name are of another encoder
    semantic_ids_of({**config, "text_features_file": "mine.safetensors"}, data_of("a"))
    assert not caplog.text


def test_the_option_names_a_method_or_a_file():
    config = {"semantic_ids": "rqvae", "output_path": "dataset", "dataset": "toys"}
    assert semantic_ids_path(config).as_posix() == "dataset/toys/toys.rqvae.ids.safetensors"
    assert semantic_ids_path({**config, "semantic_ids": "my/file"}).as_posix() == "my/file"
