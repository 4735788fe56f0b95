"""RecBole's models evaluated without most of the padding: the same scores, or padded rows."""

import pytest
import torch
from recbole.data.interaction import Interaction
from small_data import random_rows, small_options, write_inter

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set_class import create_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.quick_start import run
from recbole_hstu.training.preparation import build_model
from recbole_hstu.training.views.narrow_rows import NarrowRows


def network_of(model, width=40, **options):
    """A model, and rows of 1 to `width` events, each length twice."""
    write_inter(random_rows(n_users=12))
    options |= {"MAX_ITEM_LIST_LENGTH": width}
    config = Config(model, "toy", config_dict=small_options("SASRec", **options))
    train, _, _ = make_loaders(config, create_dataset(config))
    network = build_model(config, train._dataset).eval()
    lengths = torch.arange(1, width + 1).repeat(2).flip(0)
    items = torch.randint(1, 9, (len(lengths), width), generator=torch.Generator().manual_seed(1))
    items *= torch.arange(width) < lengths.unsqueeze(1)
    return network, Interaction({"item_id_list": items, "item_length": lengths})


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "NARM", "BERT4Rec"])
@torch.no_grad()
def test_scores_are_those_of_padded_rows(model):
    network, rows = network_of(model)
    widths, own = [], network.full_sort_predict
    network.full_sort_predict = lambda rows: (
        widths.append(rows["item_id_list"].shape[1]) or own(rows)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = own(rows).view(len(rows), -1)
    predict = NarrowRows(network, "_list")
    scores = predict(rows)
    assert predict.equal
    assert widths[-4:] == [8, 16, 32, 40]
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("first", [slice(None), [0, 40] * 40, [39, 79], [0]])
@torch.no_grad()
def test_a_model_that_reads_the_padding_keeps_it(first):
    """Whatever the first batch is: rows of all lengths, long ones alone, short ones, one."""
    network, rows = network_of("LightSANs")
    predict = NarrowRows(network, "_list")
    for batch in (rows[first], rows):
        assert torch.equal(predict(batch), network.full_sort_predict(batch))
    assert predict.equal is False


@pytest.mark.parametrize("model", ["LightSANs", "SASRec"])
@torch.no_grad()
def test_what_proves_nothing_is_not_narrowed(model):
    """Rows that are as wide as the narrowest ones, and a list that is padded on the left."""
    network, rows = network_of(model, 5)
    predict = NarrowRows(network, "_list")
    assert torch.equal(predict(rows[[4]]), network.full_sort_predict(rows[[4]]))
    assert predict.equal is False
    network, rows = network_of(model)
    for name, values in (
        ("inverse_list", rows["item_id_list"].flip(1)),
        ("tags_list", torch.ones(len(rows), 3)),
        ("artist_list", torch.ones(len(rows))),
    ):
        predict = NarrowRows(network, "_list")
        predict(Interaction({**rows.interaction, name: values}))
        assert predict.equal is False


def test_a_run_has_the_metrics_of_padded_rows(toy, monkeypatch):
    options = small_options("SASRec", MAX_ITEM_LIST_LENGTH=20)
    narrow = run("SASRec", "toy", config_dict=options)["test_result"]
    monkeypatch.setattr(NarrowRows, "_proved", lambda *_: False)
    assert run("SASRec", "toy", config_dict=options)["test_result"] == narrow


def test_a_training_step_sees_its_rows_whole():
    """Statistics of a batch, such as those of BatchNorm, are of all its rows."""
    network, rows = network_of("SASRec")
    seen, own = [], network.full_sort_predict
    network.full_sort_predict = lambda rows: seen.append(rows["item_id_list"].shape) or own(rows)
    predict = NarrowRows(network, "_list")
    network.train()
    predict(rows)
    assert seen == [(80, 40)]
    assert predict.equal is None


@pytest.mark.parametrize("value", [-torch.inf, -1e9])
@torch.no_grad()
def test_what_is_no_candidate_has_no_say(value):
    """A huge number that a mask sets is no measure of how far the others may lie apart."""
    network, rows = network_of("SASRec")
    own, barred = network.full_sort_predict, [0]

    def masked(rows, turned=0):
        scores = own(rows).view(len(rows), -1).roll(turned, 1)
        scores[:, barred] = value
        return scores

    network.full_sort_predict = masked
    predict = NarrowRows(network, "_list")
    predict(rows)
    assert predict.equal
    network.full_sort_predict = lambda rows: masked(rows, rows["item_id_list"].shape[1])
    predict = NarrowRows(network, "_list")
    predict(rows)
    assert predict.equal is False
