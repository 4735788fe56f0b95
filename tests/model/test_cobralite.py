"""COBRALite: its loss token by token, its beam against the exact scores, ablations, serving."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from semantic_ids import write_ids
from served import write_items
from small_data import small_config, small_options

from recbole_hstu.cli import main
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.files.item_text import ItemText, read_item_texts
from recbole_hstu.data.files.side_feature_file import read_text_features, write_text_features
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.layers.blocks.causal_decoder import CausalDecoder
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.sparse_ids import SparseIds
from recbole_hstu.quick_start import run
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.preparation import build_model, provide_text

SMALL = {"hidden_size": 16, "inner_size": 16, "item_text": {"fields": ["title"]}}


@pytest.fixture
def shop(toy):
    write_items()
    return write_ids()


def prepared(**more):
    """A model of random weights, and a batch of training and one of test rows."""
    config = small_config("COBRALite", **SMALL, **more)
    train, _, test = make_loaders(config, load_dataset(config))
    provide_text(config, train._dataset)
    model = build_model(config, train._dataset).eval()
    for parameter in model.parameters():  # far from uniform
        torch.nn.init.normal_(parameter, std=0.3)
    return model, next(iter(train)), next(iter(test))[0]


@torch.no_grad()
def scores(model, batch, **changed):
    for name, value in changed.items():
        setattr(model, name, value)
    return model.full_sort_predict(batch)


def test_a_token_that_follows_is_what_it_is_within_the_row():
    torch.manual_seed(0)
    decoder = CausalDecoder(n_layers=2, hidden_size=8, n_heads=2, inner_size=8, dropout=0.0)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = torch.tensor([5, 1, 3])
    rows = torch.randn(3, 5, 8)
    further = torch.randn(3, 2, 8)
    packing = Packing(lengths)
    hidden, kept = decoder.read(packing.pack(rows), packing)
    torch.testing.assert_close(hidden, decoder(packing.pack(rows), packing))
    found = decoder.follow(further, kept, lengths)
    for row, length in enumerate(lengths.tolist()):
        for one in range(2):
            longer = torch.cat([rows[row, :length], further[row, one : one + 1]])
            alone = decoder(longer, Packing(torch.tensor([length + 1])))
            torch.testing.assert_close(found[row, one], alone[-1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def by_hand(model, batch):
    """The two losses, row by row and event by event."""
    items = [
        row[:n].tolist() for row, n in zip(batch["item_id_list"], batch["item_length"], strict=True)
    ]
    items = [[*row, last] for row, last in zip(items, batch["item_id"].tolist(), strict=True)]
    in_batch = sorted({item for row in items for item in row})
    sparse, dense = [], []
    for row in items:
        tokens = []
        for step, item in enumerate(row):
            pair = (model.id_vectors[model.ids.of_item[item]], model.projection(model.text[item]))
            tokens += [
                vector + model.positions[step] + model.kinds[kind]
                for kind, vector in enumerate(pair)
            ]
        tokens = torch.stack(tokens[:-1])
        hidden = model.decoder(tokens, Packing(torch.tensor([len(tokens)])))
        for step, item in enumerate(row[1:], 1):
            logits = model.sparse_head(hidden[2 * step - 1])
            sparse.append(F.cross_entropy(logits, model.ids.of_item[item]))
            last = F.normalize(model.text[row[step - 1]], dim=0)
            query = F.normalize(last + model.dense_head(hidden[2 * step]), dim=0)
            left_out = set(row) - {item} if model.mask_seen else set()
            others = [one for one in in_batch if one not in left_out]
            logits = F.normalize(model.text[others], dim=1) @ query / model.temperature
            dense.append(F.cross_entropy(logits, torch.tensor(others.index(item))))
    return torch.stack(sparse).mean() + torch.stack(dense).mean()


@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_loss_by_hand(shop, mask_seen):
    model, batch, _ = prepared(train_batch_size=12, mask_seen=mask_seen)
    torch.testing.assert_close(model.calculate_loss(batch), by_hand(model, batch))


def test_exact_scores_are_the_probabilities_of_the_whole_catalogue(shop):
    model, _, batch = prepared(decode="exact")
    found = scores(model, batch)
    torch.testing.assert_close(found[:, 1:].exp().sum(1), torch.ones(len(found)))
    assert (found[:, 0] == -torch.inf).all()
    alone = {key: value[3:4] for key, value in batch.interaction.items()}
    torch.testing.assert_close(scores(model, alone), found[3:4])
    item = batch["item_id"].unsqueeze(1)
    torch.testing.assert_close(model.predict(batch), found.gather(1, item)[:, 0])


def test_a_beam_is_a_part_of_the_exact_scores(shop):
    model, _, batch = prepared(beam_size=100)
    exact = scores(model, batch, width=model.ids.n_ids)
    assert torch.equal(scores(model, batch), exact)  # a beam as wide as there are ids
    narrow = scores(model, batch, width=2)
    followed = narrow > -torch.inf
    torch.testing.assert_close(narrow[followed], exact[followed])
    for row, there in zip(exact, followed, strict=True):
        ids = model.ids.of_item[there.nonzero()[:, 0]].unique()
        assert len(ids) == 2
        weight = [row[1:][model.ids.of_item[1:] == one].exp().sum() for one in range(6)]
        assert set(ids.tolist()) == set(np.argsort(weight)[-2:].tolist())


def test_the_ablations(shop):
    model, train, batch = prepared(ablation="without_fusion")
    found = scores(model, batch)
    for row in found:
        assert len(model.ids.of_item[(row > -torch.inf).nonzero()[:, 0]].unique()) == 1
    model, train, batch = prepared(ablation="without_dense")
    found = scores(model, batch)[:, 1:]
    assert all(len(row.unique()) == model.ids.n_ids for row in found)
    assert not hasattr(model, "text")
    assert model.calculate_loss(train) > 0
    shop.unlink()  # without ids no file of them is read
    model, train, batch = prepared(ablation="without_id")
    found = scores(model, batch)
    assert found[:, 1:].isfinite().all()
    assert model.calculate_loss(train) > 0


def test_more_levels_make_finer_ids(shop):
    model, _, batch = prepared(id_levels=3, decode="exact")
    assert model.ids.n_ids == 30
    assert [model.ids.items(one).tolist() for one in model.ids.of_item[1:].tolist()] == [
        [item] for item in range(1, 31)
    ]
    torch.testing.assert_close(scores(model, batch)[:, 1:].exp().sum(1), torch.ones(len(batch)))


def test_a_run_is_ranked_and_served_without_the_ids(shop):
    result = run("COBRALite", "toy", config_dict=small_options("COBRALite", **SMALL))
    assert result["ranks"].ranks.min() >= 1
    shop.unlink()
    rec = Recommender.load(result["checkpoint"])
    table = rec.recommend([[("i1", 5), ("i2", 7)]], k=28)
    assert sorted(table["item"]) == sorted({f"i{n}" for n in range(30)} - {"i1", "i2"})
    assert len(rec.similar_items("i3", k=4)) == 4
    with pytest.raises(InputError, match=r"ids\.safetensors"):
        rec.add_items({"new": {"title": "red thing1"}})


def test_new_items_have_the_ids_of_the_quantiser(toy):
    """A twin of an item has its codes and its score; both are items like all others."""
    write_items()
    text = {"item_text": SMALL["item_text"], "text_dimensions": 6}
    line = ["ids", "--dataset=toy", "--level_sizes=[4, 4]", "--item_text={fields: [title]}"]
    assert main([*line, "--text_dimensions=6"]) == 0
    options = small_options("COBRALite", **SMALL | text, decode="exact")
    rec = Recommender.load(run("COBRALite", "toy", config_dict=options)["checkpoint"])
    codes = rec.saved.model.ids.of_item.tolist()
    features = read_text_features(rec.saved.config["text_features_file"])
    twin = features.vectors[features.tokens.index("i3")]
    title = read_item_texts("dataset/toy/toy.item", ItemText(("title",)))["i4"]
    rec.add_items({"new3": twin, "new4": {"title": title}})
    now = rec.saved.model.ids.of_item.tolist()
    tokens = rec.items.tolist()
    assert now[: len(codes)] == codes
    assert now[len(codes) :] == [codes[tokens.index("i3")], codes[tokens.index("i4")]]
    history = [("i1", 5), ("i2", 7)]
    old3, new3, old4, new4 = rec.scores(history, ["i3", "new3", "i4", "new4"])
    assert (new3, new4) == pytest.approx((old3, old4), abs=1e-4)
    table = rec.recommend([history], k=32, exclude_seen=False)
    assert np.exp(table["score"]).sum() == pytest.approx(1, abs=1e-4)
    assert main([*line, "--text_dimensions=6", "--seed=7"]) == 0
    with pytest.raises(InputError, match=r"\d+ items have other semantic ids there than in the"):
        rec.add_items({"new5": twin})


def test_an_id_that_no_item_has_is_refused():
    ids = SparseIds(torch.tensor([[-1, -1], [0, 1], [2, 1]]), 2)
    ids.add_items(torch.tensor([[2, 1], [0, 1]]))
    assert ids.of_item.tolist() == [0, 0, 1, 1, 0]
    assert [ids.items(one).tolist() for one in (0, 1)] == [[1, 4], [2, 3]]
    with pytest.raises(InputError, match=r"1 of 2 items .* such as \[0, 2\]"):
        ids.add_items(torch.tensor([[0, 1], [0, 2]]))
    assert ids.of_item.tolist() == [0, 0, 1, 1, 0]


def test_without_dense_no_text_is_read(shop):
    Path("dataset/toy/toy.item").unlink()
    options = small_options("COBRALite", **SMALL, ablation="without_dense")
    file = run("COBRALite", "toy", config_dict=options)["checkpoint"]
    assert not list(Path("dataset/toy").glob("*.lsa.*"))
    rec = Recommender.load(file)
    with pytest.raises(InputError, match="no text vectors to know new items by"):
        rec.add_items({"new": {"title": "red thing1"}})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--beam_size=0", "beam_size: 0 must be a whole number from 1 on"),
        ("--id_levels=4", "id_levels: 4 is more than the 3 levels"),
        ("--semantic_ids=rqvae", "recbole-hstu ids"),
        ("--text_features_file=alike.safetensors", "30 items are alike"),
        ("--n_heads=3", "n_heads: 3 must divide hidden_size: 16"),
    ],
)
def test_bad_input(shop, capsys, option, message):
    texts = {f"i{n}": "the same" for n in range(30)}
    write_text_features("alike.safetensors", texts, np.ones((30, 4)), {"encoder": "mine"})
    line = ["run", "--model=COBRALite", "--dataset=toy", "--hidden_size=16", "--epochs=1"]
    text = "--item_text={fields: [title]}"
    assert main([*line, text, "--topk=[5]", "--valid_metric=NDCG@5", option]) == 2
    assert message in capsys.readouterr().err
