"""Items that no training has seen: recommended, compared and part of histories at once."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from served import ITEM_TEXT, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.data.files.item_text import ItemText, read_item_texts
from recbole_hstu.data.files.side_feature_file import read_text_features
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.layers.items.stand_in_ids import STAND_INS, stand_in_ids
from recbole_hstu.serving.approximate_index import ApproximateIndex
from recbole_hstu.serving.cached.history_cache import HistoryCache
from recbole_hstu.support.errors import InputError

TEXT = {"item_text": ITEM_TEXT, "text_dimensions": 6}
NEW = {"new1": {"title": "quick red thing1"}, "new2": {"title": ["old", "blue thing2"]}}
HISTORY = [("i1", 5), ("i2", 7)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints of one small model a way to use text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("models"))
        toy_with_text()
        found = {
            fusion: trained("HSTUText", fusion=fusion, **TEXT, epochs=1)["checkpoint"].resolve()
            for fusion in ("sum", "gate", "text_only", "id_only")
        }
        scaled = trained("HSTUText", fusion="text_only", text_scale=3.0, **TEXT, epochs=1)
        found["scaled"] = scaled["checkpoint"].resolve()
        counts = trained("HSTUText", recent_days=[2, 8], transition_steps=3, **TEXT, epochs=1)
        found["counts"] = counts["checkpoint"].resolve()
        found["LIS"] = trained("LIS", **TEXT, epochs=1)["checkpoint"].resolve()
        text = next(Path("dataset/toy").glob("*.safetensors")).resolve()
        return {**found, "text": text}


def loaded(files, name):
    return Recommender.load(files[name], text_features_file=files["text"])


def test_further_texts_are_encoded_as_those_of_the_file(files):
    """lsa's fit is kept: the texts of the file come out as they stand in it."""
    features = read_text_features(files["text"])
    texts = read_item_texts(files["text"].parent / "toy.item", ItemText(("title",)))
    again = FurtherTexts(files["text"], {"text_encoder": "lsa", "text_dimensions": 6})
    assert again.encode(list(texts.values())) == pytest.approx(features.vectors, abs=1e-6)
    assert not again.encode(["unheard of"]).any()


@pytest.mark.parametrize("name", ["sum", "gate", "text_only", "counts", "LIS"])
def test_new_items_are_items_like_all_others(files, name):
    rec = loaded(files, name)
    at = 10 if rec.needs_time else None
    before = rec.scores(HISTORY, ["i3", "i4"], at)
    rec.add_items(NEW)
    assert rec.scores(HISTORY, ["i3", "i4"], at) == pytest.approx(before)
    lists = rec.recommend([HISTORY], k=32, at=at, exclude_seen=False).set_index("item")["score"]
    assert {"new1", "new2"} <= set(lists.index)
    assert rec.scores(HISTORY, [*NEW], at) == pytest.approx(lists[[*NEW]].to_numpy(), abs=1e-6)
    assert "new2" in set(rec.similar_items("new1", k=31)["item"])
    with_new = [*HISTORY, ("new1", 9)]
    assert "new1" not in set(rec.recommend([with_new], k=20, at=at)["item"])
    assert rec.scores(with_new, ["i3"], at)[0] != pytest.approx(before[0])
    rec.add_items({"new3": np.zeros(6)})
    assert len(rec.recommend([HISTORY], k=33, at=at, exclude_seen=False)) == 33


def test_a_vector_does_what_its_text_does(files):
    by_text, by_vector = loaded(files, "sum"), loaded(files, "sum")
    by_text.add_items(NEW)
    encoder = FurtherTexts(files["text"], by_vector.saved.config)
    vectors = encoder.encode(["quick red thing1.", "old, blue thing2."])
    by_vector.add_items(dict(zip(NEW, vectors.tolist(), strict=True)))
    expected = by_text.recommend([HISTORY], k=5, at=10)
    pd.testing.assert_frame_equal(by_vector.recommend([HISTORY], k=5, at=10), expected)


@pytest.mark.parametrize("name", ["text_only", "scaled"])
def test_an_item_with_the_text_and_id_of_another_is_its_twin(files, name):
    """`text_only` has nothing but the text: a twin has its twin's score."""
    rec = loaded(files, name)
    text = read_item_texts(files["text"].parent / "toy.item", ItemText(("title",)))["i4"]
    rec.add_items({"twin": {"title": text}})
    one, other = rec.scores(HISTORY, ["i4", "twin"], at=10)
    assert one == pytest.approx(other, abs=1e-6)
    assert rec.similar_items("twin", k=1)["item"].tolist() == ["i4"]
    lengths = rec.saved.model.items.text[1:].norm(dim=1).numpy()
    assert (lengths == pytest.approx(3)) == (name == "scaled")


def test_what_stands_in_for_ids():
    ids = torch.arange(26.0).view(13, 2)
    text = torch.nn.functional.one_hot(torch.arange(13), 13).float()
    new = 5 * text[[1, 2]]
    new[0, 11:] = -1.0  # the ten nearest of the first are all but the last two
    assert stand_in_ids("zero", ids, text, new).tolist() == [[0, 0], [0, 0]]
    assert stand_in_ids("mean", ids, text, new)[0].tolist() == ids[1:].mean(0).tolist()
    assert stand_in_ids("neighbours", ids, text, new)[0].tolist() == ids[1:11].mean(0).tolist()


def test_a_text_that_says_nothing_has_no_neighbours():
    ids = torch.arange(26.0).view(13, 2)
    text = torch.nn.functional.one_hot(torch.arange(13), 13).float()
    found = stand_in_ids("neighbours", ids, text, torch.zeros(1, 13))
    assert found[0].tolist() == ids[1:].mean(0).tolist()


def test_items_without_a_vector_of_their_own_stand_in_for_none():
    """`negative_items: training` leaves the vectors of items zero that no event trains."""
    ids = torch.arange(26.0).view(13, 2)
    ids[[1, 5]] = 0
    text = torch.nn.functional.one_hot(torch.arange(13), 13).float()
    known = [2, 3, 4, *range(6, 13)]
    new = 5 * text[[1, 5]] + text[12]
    for kind, of in (("mean", known), ("neighbours", known)):
        assert stand_in_ids(kind, ids, text, new)[1].tolist() == ids[of].mean(0).tolist()
    ids[6:] = 0  # fewer than ten are left
    assert stand_in_ids("neighbours", ids, text, new)[0].tolist() == ids[2:5].mean(0).tolist()
    for kind in STAND_INS:
        assert not stand_in_ids(kind, torch.zeros_like(ids), text, new).any()


def test_a_cache_knows_items_that_came_after_it(files):
    rec = loaded(files, "sum")
    cache = HistoryCache(rec, 1 << 20)
    cache.put("anna", HISTORY)
    cache.recommend(["anna"], k=3, at=8)
    rec.add_items(NEW)
    cache.append("anna", "new1", 9)
    found = cache.recommend(["anna"], k=5, at=10)
    expected = rec.recommend([[*HISTORY, ("new1", 9)]], k=5, at=10)
    assert found["item"].tolist() == expected["item"].tolist()
    assert found["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), abs=1e-6)


def test_an_index_takes_them_up(files):
    pytest.importorskip("faiss", reason="faiss is not installed")
    rec = loaded(files, "text_only")
    rec.index = ApproximateIndex(rec, probes=1000)
    rec.add_items(NEW)
    found = rec.recommend([HISTORY], k=30, at=8)
    assert {"new1", "new2"} <= set(found["item"])
    rec.index = None
    expected = rec.recommend([HISTORY], k=30, at=8)
    assert found["item"].tolist() == expected["item"].tolist()


def test_the_command_takes_them_from_a_file(files, in_empty_folder, capsys):
    lines = [{"item": "new1", **NEW["new1"]}, {"item": 7, "vector": [0.5] * 6}]
    Path("new.jsonl").write_text("\n".join(map(json.dumps, lines)))
    Path("new.csv").write_text("user,item,time\nanna,i1,5\nanna,new1,7\n")
    options = ["--histories=new.csv", "--at=9", "--k=31", "--out=recs.csv", "--show_progress=False"]
    options += [f"--text_features_file={files['text']}", "--exclude_seen=False"]
    assert main(["recommend", str(files["sum"]), "--new_items=new.jsonl", *options]) == 0
    rec = loaded(files, "sum")
    rec.add_items({"new1": NEW["new1"], "7": [0.5] * 6})
    expected = rec.recommend([[("i1", 5), ("new1", 7)]], k=31, at=9, exclude_seen=False)
    found = pd.read_csv("recs.csv", dtype={"item": str})
    assert found["item"].tolist() == expected["item"].tolist()
    for line, words in (
        ("nonsense", "line 1: is no JSON"),
        ('{"title": "a"}', "line 1: has no item"),
        ('{"item": "a", "item": "b"}', "line 1: the key 'item' stands there twice"),
        ('{"item": "a", "vector": [1], "title": "b"}', "a vector and other fields"),
        ('{"item": "a", "title": "b"}\n' * 2, "line 2: item a stands there twice"),
    ):
        Path("bad.jsonl").write_text(line)
        Path("recs.csv").unlink(missing_ok=True)
        assert main(["recommend", str(files["sum"]), "--new_items=bad.jsonl", *options]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error
        assert not Path("recs.csv").exists()


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ({}, "expected"),
        (["new1"], "expected"),
        ({"": {"title": "a"}}, "'' is not an item token"),
        ({None: {"title": "a"}}, "None is not an item token"),
        ({5: {"title": "a"}, "5": {"title": "a"}}, "give it once"),
        ({"new1": {"title": "red"}, "i3": {"title": "red"}}, "knows these items already: i3"),
        ({f"i{n}": {} for n in (9, 2, 7, 4)}, "already: i9, i2, i7, i4$"),
        ({"[PAD]": {"title": "red"}}, "knows these items already"),
        ({"new1": {"title": ""}}, "item new1: the text is empty; give one of title"),
        ({"new1": {}}, "the text is empty"),
        ({"new1": {"title": "<b></b> "}}, "the text is empty"),
        ({"new1": {"titel": "red"}}, "unknown fields titel; .* made from title"),
        ({"new1": {"title": float("nan")}}, "nan is not a text"),
        ({"new1": "red thing"}, "neither fields nor a vector"),
        ({"new1": None}, "neither fields nor a vector"),
        ({"new1": [1.0] * 5}, r"shape \(5,\); the model's text vectors have 6"),
        ({"new1": [[1.0] * 6]}, r"shape \(1, 6\)"),
        ({"new1": [1.0] * 5 + [float("nan")]}, "not finite"),
        ({"new1": [1.0] * 5 + [1e39]}, "not finite"),
        ({"new1": [1e25] * 6}, "the vector's length is not finite"),
        ({"new1": ["1"] * 6}, "neither fields nor a vector"),
        ({"new1": [1j] * 6}, "neither fields nor a vector"),
    ],
)
def test_bad_items_change_nothing(files, items, words):
    rec = loaded(files, "sum")
    with pytest.raises(InputError) as caught:
        rec.add_items(items)
    assert re.search(words, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert len(rec.items) == len(rec.saved.item_tokens) == rec.scorer.n_items == 31


def test_models_that_cannot_know_new_items(files):
    with pytest.raises(InputError, match="HSTUText has no text vectors to know new items by"):
        loaded(files, "id_only").add_items(NEW)
    with pytest.raises(InputError, match="stand_in: 'best' is not one of neighbours, mean, zero"):
        loaded(files, "sum").add_items(NEW, stand_in="best")
