"""The losses against their plain forms, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from golden_model import SIZES, Settings, dataset
from hstu_batches import make_batch, make_model, text_model

from recbole_hstu.config.config import Config
from recbole_hstu.layers import losses, picked_products
from recbole_hstu.layers.gbce import gbce_beta
from recbole_hstu.layers.items.items_in_use import ItemsInUse
from recbole_hstu.layers.losses import (
    WeighedFeatures,
    full_softmax,
    sampled_softmax,
    shared_softmax,
)
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.support.errors import InputError

T, V, D = 150, 40, 6


def leaves(seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = (T, V, V)
    return [
        torch.randn(n, D, dtype=torch.double, generator=generator).requires_grad_() for n in sizes
    ]


def gradients(loss, tensors):
    return [loss.detach(), *torch.autograd.grad(loss, tensors, allow_unused=True)]


@pytest.fixture
def positives():
    return torch.randint(1, V, (T,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[1 << 20, 64 * V])
def blocks(request, monkeypatch):
    """One block of queries, and several of which the last is not full."""
    monkeypatch.setitem(picked_products.CHUNK_PRODUCTS, "cpu", request.param)


@pytest.mark.usefixtures("blocks")
def test_full_is_cross_entropy_over_the_real_items(positives):
    queries, table, _ = leaves()
    loss = full_softmax(queries, table, positives, temperature=0.3)
    logits = queries @ table[1:].t() / 0.3
    plain = F.cross_entropy(logits, positives - 1)
    torch.testing.assert_close(
        gradients(loss, [queries, table]), gradients(plain, [queries, table])
    )


@pytest.mark.usefixtures("blocks")
def test_full_with_a_table_of_positives(positives):
    queries, table, own = tensors = leaves()
    loss = full_softmax(queries, table, positives, temperature=0.3, positive_table=own)
    logits = queries @ table[1:].t()
    positive = (queries * own[positives]).sum(-1, keepdim=True)
    logits = logits.scatter(1, positives.unsqueeze(1) - 1, positive) / 0.3
    plain = F.cross_entropy(logits, positives - 1)
    torch.testing.assert_close(gradients(loss, tensors), gradients(plain, tensors))


@pytest.mark.usefixtures("blocks")
def test_full_with_weighed_features(positives):
    queries, table, own = leaves()
    generator = torch.Generator().manual_seed(2)
    features = torch.rand(3, T, V - 1, dtype=torch.double, generator=generator)
    weights = torch.tensor([0.5, -1.0, 2.0], dtype=torch.double, requires_grad=True)
    tensors = [queries, table, own, weights]
    added = WeighedFeatures(weights, lambda part: list(features[:, part]))
    settings = {"temperature": 0.3, "positive_table": own}
    loss = full_softmax(queries, table, positives, added=added, **settings)
    positive = (queries * own[positives]).sum(-1, keepdim=True)
    products = (queries @ table[1:].t()).scatter(1, positives.unsqueeze(1) - 1, positive)
    logits = products / 0.3 + torch.einsum("f,ftv->tv", weights, features)
    plain = F.cross_entropy(logits, positives - 1)
    torch.testing.assert_close(gradients(loss, tensors), gradients(plain, tensors))


def test_blocks_are_smaller_where_features_are_held_beside_them(positives, monkeypatch):
    monkeypatch.setitem(picked_products.CHUNK_PRODUCTS, "cpu", 400 * (V - 1))
    queries, table, _ = leaves()
    parts = []

    def of(part):
        parts.append((part.start, part.stop))
        return 3 * [torch.zeros(part.stop - part.start, V - 1, dtype=torch.double)]

    added = WeighedFeatures(torch.zeros(3, dtype=torch.double), of)
    full_softmax(queries, table, positives, temperature=0.3, added=added)
    assert parts == [(0, 100), (100, T)]


def test_full_bears_probabilities_that_underflow():
    queries = torch.full((64, D), 50.0).requires_grad_()
    table = torch.linspace(-1, 1, V).repeat(D, 1).t().contiguous().requires_grad_()
    loss = full_softmax(queries, table, torch.full((64,), 1), temperature=0.1)
    assert all(torch.isfinite(g).all() for g in gradients(loss, [queries, table]))


@pytest.mark.parametrize("separate", [False, True])
def test_shared_is_sampled_with_the_same_draw_for_all(positives, separate):
    tensors = leaves()[: 3 if separate else 2]
    queries, table, own = (*tensors, None)[:3]
    negatives = torch.arange(1, V, 3)  # some queries meet their positive
    settings = {"temperature": 0.3, "positive_table": own, "log_weight": 0.7}
    loss = shared_softmax(queries, table, positives, negatives, **settings)
    repeated = negatives.expand(T, -1)
    plain = sampled_softmax(queries, table, positives, repeated, impl="gather", **settings)
    torch.testing.assert_close(gradients(loss, tensors), gradients(plain, tensors))


def test_corrected_negatives_stand_for_all_items(positives):
    """The mean over draws of sum_R exp(logit + log_weight) is the sum over all other items."""
    queries, table, _ = leaves()
    generator = torch.Generator().manual_seed(0)
    negatives = torch.randint(1, V, (T, 20_000), generator=generator)
    settings = {"temperature": 5.0, "log_weight": losses.log_correction(V, 20_000)}
    corrected = sampled_softmax(queries, table, positives, negatives, **settings)
    full = full_softmax(queries, table, positives, temperature=5.0)
    assert corrected.item() == pytest.approx(full.item(), abs=2e-3)
    raw = sampled_softmax(queries, table, positives, negatives, temperature=5.0)
    assert raw.item() - full.item() > 5  # without it 20,000 negatives outweigh 38 items


@pytest.mark.parametrize("width", [40, 64])
def test_threads_share_a_sparse_product_by_columns(width, positives):
    torch.manual_seed(2)
    queries = torch.randn(T, width, dtype=torch.double, requires_grad=True)
    table = torch.randn(V, width, dtype=torch.double, requires_grad=True)
    negatives = torch.randint(1, V, (T, 12))
    ways = {}
    for impl, threads in (("gather", 1), ("sparse", 1), ("sparse", 3)):
        torch.set_num_threads(threads)
        try:
            loss = sampled_softmax(queries, table, positives, negatives, temperature=0.5, impl=impl)
            ways[impl, threads] = gradients(loss, (queries, table))
        finally:
            torch.set_num_threads(1)
    torch.testing.assert_close(ways["sparse", 3], ways["gather", 1])
    torch.testing.assert_close(ways["sparse", 3], ways["sparse", 1], rtol=0, atol=0)


@pytest.mark.parametrize("n_items", [50, 5000])  # by a mark an item, and by a search
def test_items_in_use_and_their_rows(n_items):
    items = ItemsInUse(n_items, torch.tensor([[7, 0], [3, 7]]), torch.tensor([49]))
    assert items.ids.tolist() == [0, 3, 7, 49]
    assert items.rows(torch.tensor([[7, 0], [3, 49]])).tolist() == [[2, 0], [1, 3]]


@pytest.mark.parametrize("fusion", ["id_only", "sum", "separate"])
@pytest.mark.parametrize("loss_type", ["sampled", "shared"])
def test_a_table_of_the_items_in_use_changes_nothing(loss_type, fusion, text_file, monkeypatch):
    changes = {"loss_type": loss_type, "num_negatives": 3}
    if fusion == "separate":
        changes["negative_projection"] = "separate"
    else:
        changes["fusion"] = fusion
    batch, results, sizes = make_batch([4, 2]), [], []
    for whole in (False, True):
        model = text_model(text_file, **changes)
        # 2 rows of up to 4 events touch fewer than 61 items; the whole table is forced below
        if whole:
            monkeypatch.setattr(model, "for_items_in_use", lambda *both: (*both, None))
        model.items.register_forward_hook(lambda *args: sizes.append(len(args[2][0])))
        loss = model.calculate_loss(batch)
        results.append(gradients(loss, list(model.parameters())))
    assert sizes[0] < sizes[1] == 61
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("loss_type", ["shared", "full"])
def test_loss_types_reach_the_model(loss_type):
    """Each is another loss, and a step along its gradient lowers it."""
    model = make_model(loss_type=loss_type)
    batch = make_batch([5, 9, 3])
    loss = model.calculate_loss(batch)
    assert loss.item() != pytest.approx(make_model().calculate_loss(batch).item(), rel=1e-3)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-4 * parameter.grad
    model.draws.at(0, 0)
    assert model.calculate_loss(batch) < loss


def test_full_loss_of_a_uniform_model_is_the_logarithm_of_the_catalogue():
    model = make_model(loss_type="full")
    torch.nn.init.ones_(model.items.ids)
    assert model.calculate_loss(make_batch([4])).item() == pytest.approx(math.log(60))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, math.log(1 + 32)),
        ({"logq_correction": True}, math.log(1 + 60)),  # the negatives stand for all items
        (
            {"loss_type": "gbce", "gbce_t": 0.75},
            (gbce_beta(61, 32, t=0.75) + 32) / 33 * math.log(2),
        ),
    ],
)
def test_drawn_losses_where_all_scores_are_zero(options, expected, monkeypatch):
    model, batch = make_model(num_negatives=32, **options), make_batch([4, 9])
    torch.nn.init.zeros_(model.items.ids)
    for items in (batch["item_id_list"], batch["item_id"]):
        items.clamp_(max=59)
    monkeypatch.setattr(model, "draw_negatives", lambda *_: torch.full((13, 32), 60))  # no hits
    assert model.calculate_loss(batch).item() == pytest.approx(expected)


def test_unknown_or_pointless_losses_are_refused():
    with pytest.raises(InputError, match="loss_type: 'half' must be one of sampled, shared, full"):
        Config("HSTU", "ml-100k", config_dict={"loss_type": "half"})
    with pytest.raises(InputError, match="logq_correction"):
        HSTU(Settings({**SIZES, "loss_type": "full", "logq_correction": True}), dataset())


@pytest.mark.parametrize("fusion", ["id_only", "sum"])
@pytest.mark.parametrize("loss_type", ["sampled", "shared", "full"])
def test_reduced_precision_is_near(loss_type, fusion, text_file):
    """RecBole's `enable_amp`, with more items than a dense product would be taken for."""
    options = {"loss_type": loss_type, "num_negatives": 4, "fusion": fusion}
    model = text_model(text_file, **options).float()
    batch = make_batch([12, 9, 11, 3, 12])
    weights = list(model.items.parameters())
    exact = gradients(model.calculate_loss(batch), weights)
    model.draws.at(0, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = gradients(model.calculate_loss(batch), weights)
    assert near[0].item() == pytest.approx(exact[0].item(), rel=0.02)
    for ours, plain in zip(near[1:], exact[1:], strict=True):
        assert F.cosine_similarity(ours.flatten(), plain.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ("items_a_negative", "dtype", "expected"),
    [(5, torch.float32, "dense"), (50, torch.float32, "sparse"), (100, torch.bfloat16, "gather")],
)
def test_the_cheapest_way_depends_on_the_catalogue(items_a_negative, dtype, expected):
    table = torch.zeros(items_a_negative * 8, 2, dtype=dtype)  # bfloat16 has no sparse products
    assert losses.choose_impl(table, 8) == expected


@pytest.mark.parametrize("impl", ["gather", "sparse"])
def test_under_autocast_all_ways_have_the_same_gradients(impl):
    generator = torch.Generator().manual_seed(1)
    queries, table = (
        torch.randn(n, 16, generator=generator, requires_grad=True) for n in (40, 200)
    )
    positives = torch.randint(1, 200, (40,), generator=generator)
    negatives = torch.randint(1, 200, (40, 8), generator=generator)
    found = {}
    for way in ("dense", impl):
        with torch.autocast("cpu", torch.bfloat16):
            loss = sampled_softmax(queries, table, positives, negatives, temperature=0.5, impl=way)
        found[way] = [loss, *torch.autograd.grad(loss, [queries, table])]
    for value, expected in zip(found[impl], found["dense"], strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
