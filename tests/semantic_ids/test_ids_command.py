"""`recbole-hstu ids`: from an `.item` file to a file that models read; bad input writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from semantic_ids import write_ids
from served import toy_with_text

from recbole_hstu.cli import main
from recbole_hstu.data.files.semantic_id_file import codes_by_token, read_quantiser
from recbole_hstu.data.files.side_feature_file import read_text_header, write_text_features

TEXT = ["--dataset=toy", "--item_text={fields: [title]}", "--text_dimensions=6"]
FILE = Path("dataset/toy/toy.rkmeans.ids.safetensors")


@pytest.fixture
def data():
    toy_with_text()


def vectors_file(vectors, n_items=30):
    path = Path("own.safetensors")
    write_text_features(path, {f"i{i}": "" for i in range(n_items)}, vectors, {})
    return f"--text_features_file={path}"


def test_a_file_and_what_it_is_worth(data, capsys):
    Path("ids.yaml").write_text("level_sizes: [4, 4]\ncategory_field: title\n")
    assert main(["ids", *TEXT, "--config_files=ids.yaml"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(FILE)
    assert said[1].startswith("30 items, ")
    assert said[2].split("   ")[-1] == "by chance"
    assert said[-1].split()[:4] == ["2", "4", "of", "4"]
    quantiser, provenance = read_quantiser(FILE)
    assert provenance["options"] == {"level_sizes": [4, 4], "max_iterations": 100}
    made_from = Path("dataset/toy") / provenance["text_features"]["file"]
    assert provenance["text_features"]["content_hash"] == read_text_header(made_from).content_hash
    assert [book.shape for book in quantiser.values()] == [(4, 6), (4, 6)]
    before = FILE.read_bytes()
    assert main(["ids", *TEXT, "--config_files=ids.yaml", "--out=again"]) == 0
    assert Path("again").read_bytes() == before


def test_rqvae_beside_it(data, capsys):
    small = ["--level_sizes=[4, 4]", "--hidden_sizes=[8]", "--ids_epochs=2", "--latent_size=2"]
    assert main(["ids", *TEXT, "--method=rqvae", *small]) == 0
    assert "dead codes revived" in capsys.readouterr().out
    assert Path("dataset/toy/toy.rqvae.ids.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method=kmeans"], "--method=kmeans: is not one of rkmeans, rqvae"),
        (["--level_sizes=[4, 1]"], "level_sizes: [4, 1] must be whole numbers from 2 to"),
        (["--level_sizes=256"], "level_sizes: 256 must be a list"),
        (["--level_sizes=[4000000000, 4]"], "whole numbers from 2 to 1,048,576"),
        (["--out=dataset"], "--out=dataset: is a folder; name a file"),
        (["--max_iterations=0"], "max_iterations: 0 must be a whole number from 1 on"),
        (["--latent_size=4"], "unknown option 'latent_size'"),  # of rqvae
        (["--categry_field=title"], "'categry_field'; did you mean 'category_field'?"),
        (["--methd=rqvae"], "did you mean 'method'?"),
        (["--category_field=colour"], "has no column colour"),
        (["--text_features_file=none.safetensors"], "none.safetensors: cannot be read"),
        (["--model=HSTUBLaIR"], "text_dimensions: means nothing to text_encoder huggingface"),
    ],
)
def test_bad_options(data, capsys, options, words):
    assert main(["ids", *TEXT, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error and error.startswith("recbole-hstu: error: ")
    assert not FILE.exists()


def test_vectors_that_are_there_are_not_encoded(data, capsys):
    assert main(["encode", *TEXT, "--text_features_file=none.safetensors"]) == 2
    assert "text_features_file: names what is to be made" in capsys.readouterr().err


def test_a_model_that_reads_no_text(data, capsys):
    assert main(["ids", "--dataset=toy", "--model=HSTU"]) == 2
    assert "--model=HSTU: reads no item text" in capsys.readouterr().err


def test_vectors_that_are_all_alike(data, capsys):
    alike = np.outer(np.arange(1, 31), [1.0, 2.0, 3.0])  # in direction, whatever their length
    assert main(["ids", "--dataset=toy", vectors_file(alike)]) == 2
    assert "own.safetensors: the text vectors of all 30 items are alike" in capsys.readouterr().err
    assert not FILE.exists()


def test_what_was_counted_in_the_data_is_shown(data, capsys):
    for line in (["ids", *TEXT], ["encode", *TEXT]):
        assert main([*line, "--rm_dup_inter=first"]) == 0
        said = capsys.readouterr().err
        assert 0 <= said.find("0 repeated interactions left out") < said.find("text features:")


def test_an_item_without_text_is_not_made_zeros(data, capsys):
    path = Path("dataset/toy/toy.item")
    path.write_text(path.read_text().replace("\tblue red thing2\n", "\t\n"))
    assert main(["ids", *TEXT, "--text_missing=zero"]) == 2
    assert "set text_missing: empty, or filter them out" in capsys.readouterr().err
    assert main(["ids", *TEXT, "--text_missing=empty"]) == 0


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("i3\t", "i2\t", "toy.item: items twice: i2"),
        ("item_id:", "asin:", "toy.item: no column item_id; the file has asin, title"),
    ],
)
def test_an_item_file_that_cannot_tell_categories(data, capsys, before, after, words):
    vectors = vectors_file(np.random.default_rng(0).normal(size=(30, 3)))
    path = Path("dataset/toy/toy.item")
    path.write_text(path.read_text().replace(before, after, 1))
    assert main(["ids", "--dataset=toy", vectors, "--category_field=title"]) == 2
    assert words in capsys.readouterr().err


def test_a_file_of_codes_alone_gives_no_further_ids(data, capsys):
    assert main(["ids", *TEXT, f"--quantiser={write_ids()}", "--out=more"]) == 2
    assert "nothing that gives further items theirs" in capsys.readouterr().err
    assert not Path("more").exists()


def test_vectors_of_other_items(data, capsys):
    few = vectors_file(np.random.default_rng(0).normal(size=(20, 3)), n_items=20)
    assert main(["ids", "--dataset=toy", few]) == 2
    assert "10 of 30 items have no text vector: i2" in capsys.readouterr().err
    assert not FILE.exists()


@pytest.mark.parametrize("method", ["rkmeans", "rqvae"])
def test_further_items_get_ids_and_the_others_keep_theirs(data, capsys, method):
    vectors = np.random.default_rng(0).normal(size=(32, 3))
    vectors[30:] = vectors[4]  # two items that come later are like one that was there
    options = ["--level_sizes=[4, 4]"]
    if method == "rqvae":
        options += ["--hidden_sizes=[4]", "--latent_size=2", "--ids_epochs=1"]
    line = ["ids", "--dataset=toy", f"--method={method}"]
    assert main([*line, *options, vectors_file(vectors[:30]), "--out=first"]) == 0
    more = vectors_file(vectors, n_items=32)
    assert main([*line, "--quantiser=first", more, "--out=second", "--seed=7"]) == 0
    assert read_quantiser("second")[1]["seed"] == read_quantiser("first")[1]["seed"]  # its codes
    first, second = codes_by_token("first"), codes_by_token("second")
    assert first.items() <= second.items()
    prefix = first["i4"][:-1]
    highest = max(codes[-1] for codes in first.values() if codes[:-1] == prefix)
    assert [second["i30"], second["i31"]] == [[*prefix, highest + 1], [*prefix, highest + 2]]
    capsys.readouterr()
    assert main([*line, "--quantiser=first", more, "--level_sizes=[8, 8]"]) == 2
    assert "leave --level_sizes out" in capsys.readouterr().err
    for others in (vectors[::-1], vectors[:, :2]):
        assert main([*line, "--quantiser=first", vectors_file(others, 32), "--out=third"]) == 2
        assert "another encoder or another fit than own.safetensors" in capsys.readouterr().err
    assert not Path("third").exists()
