"""GLoSS's retrieval half: generated texts find items by words and by vectors, fused by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import small_config, small_options

from recbole_hstu.cli import main
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.files.query_file import read_queries, write_queries
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.quick_start import run
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model, provide_text

TEXT = {"item_text": {"fields": ["title"], "style": "pipes"}}


@pytest.fixture
def shop(toy):
    """`toy` whose item i has a word of its own and one that it shares with two others."""
    lines = [f"i{i}\tword{i} colour{i % 10}" for i in range(30)]
    Path("dataset/toy/toy.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *lines]))


def model_and_batch(queries, **more):
    write_queries("q.jsonl", queries)
    config = small_config("GLoSS", queries="q.jsonl", **TEXT, **more)
    train, _, test = make_loaders(config, load_dataset(config))
    provide_text(config, train._dataset)
    batch = next(iter(test))[0]
    return build_model(config, train._dataset).eval(), batch, train._dataset


def test_users_that_the_data_lack_are_counted(shop, caplog):
    model_and_batch({"u0": ["word1"], "nobody": ["word2"], "none": ["word3"]})
    assert "2 users of q.jsonl are not in toy: nobody, none" in caplog.text


@pytest.mark.parametrize("retriever", ["bm25", "vectors"])
def test_every_text_finds_its_item_and_the_best_score_of_an_item_counts(shop, retriever):
    if retriever == "bm25":
        pytest.importorskip("bm25s")
    texts = ["word3 colour3", "word4", "word3", "unheard of"]
    model, batch, data = model_and_batch({"u0": texts, "u1": ["word9"]}, retriever=retriever)
    scores = model.full_sort_predict(batch)
    tokens, users = data.field2id_token["item_id"], data.field2id_token["user_id"]
    by_user = dict(zip(users[batch["user_id"]], scores, strict=True))
    listed = {tokens[i]: by_user["u0"][i].item() for i in range(31) if by_user["u0"][i] > -np.inf}
    assert set(listed) == {"i3", "i4"}
    # Two of i3's words say more than one; the second text that finds i3 changes nothing.
    alone = model_and_batch({"u0": texts[:2]}, retriever=retriever)
    row = alone[0].full_sort_predict(alone[1])[(batch["user_id"] == 1).nonzero()[0, 0]]
    assert torch.allclose(by_user["u0"], row)
    assert listed["i3"] > listed["i4"]
    assert tokens[int(by_user["u1"].argmax())] == "i9"
    assert (by_user["u2"] == -np.inf).all()


def test_a_text_of_no_words_finds_nothing(shop, monkeypatch):
    """Whatever its vector is: encoders give the empty text one, too."""
    monkeypatch.setattr(
        FurtherTexts, "encode", lambda self, texts: np.ones((len(texts), 12), "float32")
    )
    queries = {"u0": [" "], "u1": ["word9"]}
    model, batch, _ = model_and_batch(queries, retriever="vectors", text_dimensions=12)
    listed = (model.full_sort_predict(batch) > -np.inf).any(1)
    assert int(listed.sum()) == 1


def test_a_run_counts_whoever_has_no_text_as_missed_and_serves_the_others(shop):
    pytest.importorskip("bm25s")
    write_queries("q.jsonl", {f"u{n}": [f"Title: word{n}"] for n in range(30)})
    more = {"queries": "q.jsonl", "retriever": "bm25", **TEXT}
    result = run("GLoSS", "toy", config_dict=small_options("GLoSS", **more))
    ranks = result["ranks"].ranks
    assert set(ranks.tolist()) <= {1, MISSED}
    assert "10 users have no text in q.jsonl" in result["log"].read_text()
    rec = Recommender.load(result["checkpoint"])
    table = rec.recommend_users(["u5", "u7"], exclude_seen=False, k=3)
    assert table[["user", "item", "rank"]].to_numpy().tolist() == [["u5", "i5", 1], ["u7", "i7", 1]]
    with pytest.raises(InputError, match="takes no further items"):
        rec.saved.model.add_items(torch.ones(1, 4), "mean")


def test_the_published_form_is_read():
    entry = {"reviewer_id": "A1", "asin": "B0", "generated_sequences": ["Title: A  drum", "reed"]}
    Path("published.json").write_text(json.dumps([entry, {**entry, "reviewer_id": 7}]))
    assert read_queries("published.json") == {"A1": ["A  drum", "reed"], "7": ["A  drum", "reed"]}
    marked = json.dumps(entry).encode("utf-8-sig")  # as some editors write it
    Path("published.json").write_bytes(marked)
    assert list(read_queries("published.json")) == ["A1"]
    own = {"ü": ["Größe", "one\u2028line", "another\x85one"]}
    write_queries("own.jsonl", own)
    assert read_queries("own.jsonl") == own


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no user"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"user_id": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"user_id": "a", "user_id": "b"}', "the key 'user_id' stands there twice"),
        ('{"user_id": "a"}', "entry 1: must be an object with reviewer_id or user_id"),
        ('{"user_id": "a", "generated_sequences": []}', "entry 1: must be"),
        ('{"user_id": "a", "generated_sequences": ["x"]}\n' * 2, "entry 2: user a .* twice"),
        ('{"user_id": "nobody", "generated_sequences": ["x"]}', "holds no user of toy"),
    ],
)
def test_a_file_that_is_of_no_use(shop, content, message):
    Path("bad.jsonl").write_text(content)
    config = small_config("GLoSS", queries="bad.jsonl", retriever="bm25", **TEXT)
    with pytest.raises(InputError, match=message):
        build_model(config, load_dataset(config))


def test_queries_are_asked_for(shop):
    config = small_config("GLoSS", retriever="bm25", **TEXT)
    with pytest.raises(InputError, match="add --queries=FILE"):
        build_model(config, load_dataset(config))


def test_no_search_selects_on_items_that_the_texts_were_written_with(shop, capsys):
    Path("space.yaml").write_text("retriever: {choice: [bm25, vectors]}\n")
    write_queries("q.jsonl", {"u1": ["word1"]})
    line = ["tune", "--model=GLoSS", "--dataset=toy", "--params_file=space.yaml"]
    line += [f"--{key}={value}" for key, value in small_options("GLoSS").items()]
    assert main([*line, "--queries=q.jsonl", "--item_text={fields: [title]}"]) == 2
    assert "written with knowledge of the validation items" in capsys.readouterr().err


def test_a_service_answers_known_users_from_their_texts(shop):
    pytest.importorskip("bm25s")
    pytest.importorskip("uvicorn")
    from running_service import running

    from recbole_hstu.service.item_titles import ItemTitles
    from recbole_hstu.service.served_model import ServedModel

    write_queries("q.jsonl", {"u5": ["word5", "word6"]})
    more = {"queries": "q.jsonl", "retriever": "bm25", **TEXT}
    result = run("GLoSS", "toy", config_dict=small_options("GLoSS", **more))
    rec = Recommender.load(result["checkpoint"])
    titles = ItemTitles(rec.saved.item_tokens, {"i5": "word5"})
    with running([ServedModel("gloss", rec, titles, 1 << 20)]) as client:
        for user in ("u5", "u7"):
            client.post("/events", {"user": user, "events": [["i6", 5]]})
        status, _, found = client.post("/recommend", {"users": ["u5", "u7"]})
        refused, _, why = client.post("/recommend", {"histories": [["i1"]]})
    assert status == 200
    lists = [[(row["item"], row["title"]) for row in rows] for rows in found["lists"]]
    assert lists == [[("i5", "word5")], []]  # i6 is seen, and nobody wrote a text for u7
    assert refused == 409 and "users of a service" in why["detail"]
