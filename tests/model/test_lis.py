"""Last-item search: cosine and BM25 by hand, and through the same loaders as every model."""

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.files.side_feature_file import write_text_features
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model, provide_text

WORDS = ["guitar", "string", "drum", "reed", "bow", "amplifier", "cable", "pick"]


@pytest.fixture
def shop(toy):
    """`toy` with item text; i7 has none, i8 is i9's twin."""
    rng = np.random.default_rng(5)
    texts = {f"i{i}": " ".join(rng.choice(WORDS, rng.integers(2, 9))) for i in range(30)}
    texts["i7"], texts["i8"] = "", texts["i9"]
    lines = ["item_id:token\ttitle:token_seq", *(f"{k}\t{v}" for k, v in texts.items())]
    Path("dataset/toy/toy.item").write_text("\n".join(lines) + "\n")
    return texts


def options(**more):
    text = {"item_text": {"fields": ["title"], "style": "pipes"}, "mask_seen": True}
    return small_options("SASRec", **text, **more)


def scores(**more):
    """The whole test set's scores, the last item of each row, and the item tokens by id."""
    config = Config("LIS", "toy", config_dict=options(**more))
    train, _, test = make_loaders(config, load_dataset(config))
    provide_text(config, train._dataset)
    model = build_model(config, train._dataset).eval()
    (batch, _, _, _) = next(iter(test))
    last = batch["item_id_list"].gather(1, batch["item_length"].unsqueeze(1) - 1).squeeze(1)
    tokens = train._dataset.field2id_token["item_id"]
    return model.full_sort_predict(batch), last.tolist(), [str(t) for t in tokens], model, batch


def test_cosine_with_any_side_feature_file(shop):
    vectors = np.random.default_rng(1).normal(size=(30, 6))
    vectors[7] = 0
    write_text_features("mine.safetensors", shop, vectors, {"encoder": "mine"})
    found, last, tokens, model, batch = scores(text_features_file="mine.safetensors")
    assert found.shape == (40, 31)
    for row, item in enumerate(last):
        query = vectors[int(tokens[item][1:])]
        for other in range(1, 31):
            target = vectors[int(tokens[other][1:])]
            norms = np.linalg.norm(query) * np.linalg.norm(target)
            expected = query @ target / norms if norms else 0
            assert found[row, other].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(model.predict(batch), found.gather(1, batch["item_id"].unsqueeze(1))[:, 0])


def test_bm25_by_its_formula(shop):
    pytest.importorskip("bm25s")
    found, last, tokens, _, _ = scores(retriever="bm25", bm25_k1=1.2, bm25_b=0.6)
    texts = {token: text.split() for token, text in shop.items()}
    mean = sum(map(len, texts.values())) / len(texts)
    holders = Counter(word for words in texts.values() for word in set(words))
    for row, item in enumerate(last[:10]):
        for other in range(1, 31):
            words = texts[tokens[other]]
            expected = 0.0
            for word in texts[tokens[item]]:
                idf = math.log(1 + (30 - holders[word] + 0.5) / (holders[word] + 0.5))
                length = 1.2 * (1 - 0.6 + 0.6 * len(words) / mean)
                expected += idf * words.count(word) / (words.count(word) + length)
            assert found[row, other].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("retriever", ["vectors", "bm25"])
@pytest.mark.parametrize("protocol", ["paper", "recbole"])
def test_a_whole_run(shop, retriever, protocol):
    if retriever == "bm25":
        pytest.importorskip("bm25s")
    result = run("LIS", "toy", config_dict=options(retriever=retriever, protocol=protocol))
    record = result["record"]
    assert record.parameters == 0
    assert record.converged is None
    assert len(result["ranks"].users) == 40
    assert result["ranks"].ranks[result["ranks"].ranks != MISSED].max() <= 30
    assert bool(result["best_valid_result"]) == (protocol == "recbole")


def test_the_words_are_read_in_the_encoding_of_the_data(shop):
    pytest.importorskip("bm25s")
    file = Path("dataset/toy/toy.item")
    file.write_bytes(file.read_text().replace("drum", "trömmel").encode("latin-1"))
    result = run("LIS", "toy", config_dict=options(retriever="bm25", encoding="latin-1"))
    assert len(result["ranks"].users) == 40


def test_a_mistaken_retriever_and_a_missing_library(shop, monkeypatch):
    with pytest.raises(InputError, match="retriever: 'tfidf' must be one of vectors, bm25"):
        scores(retriever="tfidf")
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(InputError, match=r"pip install \"recbole-hstu\[bm25\]\""):
        scores(retriever="bm25")


def test_no_item_text(toy):
    write_inter(random_rows())
    for retriever in ("vectors", "bm25"):
        with pytest.raises(InputError, match=r"toy\.item"):
            scores(retriever=retriever)
