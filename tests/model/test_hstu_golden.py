"""HSTU and HSTUText against the recorded numbers of the published code, array by array."""

import numpy as np
import pytest
import torch
from golden_model import (
    SIZES,
    TEXT_NAMES,
    TEXT_SETTINGS,
    Settings,
    batch,
    dataset,
    golden,
    load_weights,
    packed_negatives,
    parameter_names,
    write_text_file,
)

from recbole_hstu.evaluation.metrics import mean_metrics
from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.layers.blocks.hstu_block import time_buckets
from recbole_hstu.layers.losses import sampled_softmax
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.model.hstutext import HSTUText

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
UNITS = pytest.mark.parametrize("unit", ["sec", "ms"])


def prefix(dtype):
    return "f64/" if dtype == torch.float64 else ""


@pytest.fixture(params=["id", "text"])
def kind(request):
    return request.param


@pytest.fixture
def arrays(kind):
    return golden(f"tiny_{kind}_rand")


@pytest.fixture
def names(kind):
    return parameter_names() | (TEXT_NAMES if kind == "text" else {})


@pytest.fixture
def model(kind, arrays, names, tmp_path):
    if kind == "id":
        model = HSTU(Settings(SIZES), dataset())
    else:
        file = write_text_file(tmp_path, arrays["w/_embedding_module._text_embeddings"])
        model = HSTUText(Settings(SIZES, text_features_file=file, **TEXT_SETTINGS), dataset())
    load_weights(model, arrays, names)
    return model.eval()


def loss_of(model, interaction, negatives, impl="auto"):
    inputs, candidates = model.items()
    hidden, packing = model.forward(interaction, inputs)
    positives = packing.pack(model.shifted(interaction, "item_id_list", "item_id"))
    return sampled_softmax(
        hidden,
        model.normalised(candidates),
        positives,
        packed_negatives(model, interaction, negatives),
        temperature=model.temperature,
        impl=impl,
    )


def close(ours, theirs, tolerance):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    error = np.abs(ours.detach().numpy() - theirs).max() / max(np.abs(theirs).max(), 1)
    assert error < tolerance


def test_buckets():
    arrays = golden("buckets")
    ours = time_buckets(torch.from_numpy(arrays["delta"])).numpy()
    differ = ours != arrays["bucket"]
    assert not (differ & ~arrays["near_edge"]).any()
    assert np.abs(ours - arrays["bucket"]).max() <= 1


@UNITS
def test_relative_bias(model, arrays, unit):
    times = torch.from_numpy(arrays[f"{unit}/train/timestamps"])
    asked = torch.cat([times[:, 1:], times[:, -1:]], dim=1)
    buckets = time_buckets(asked.unsqueeze(2) - times.unsqueeze(1))
    close(model.layers[0].bias(buckets), arrays[f"{unit}/train/rel_bias_layer0"], 1e-6)


@PRECISIONS
@UNITS
def test_embeddings_of_every_position(model, arrays, unit, dtype):
    model.to(dtype)
    interaction = batch(arrays, unit, "train")
    hidden, packing = model.forward(interaction, model.items()[0])
    recorded = torch.from_numpy(arrays[f"{prefix(dtype)}{unit}/train/seq_embeddings"])
    close(hidden, packing.pack(recorded), TOLERANCE[dtype])


@PRECISIONS
@UNITS
@pytest.mark.parametrize("impl", ["dense", "gather"])
def test_loss_and_every_gradient(model, arrays, names, unit, dtype, impl):
    model.to(dtype)
    loss = loss_of(model, batch(arrays, unit, "train"), arrays[f"{unit}/train/neg_ids"], impl=impl)
    loss.backward()
    close(loss, arrays[f"{prefix(dtype)}{unit}/train/loss"], TOLERANCE[dtype])
    for theirs, ours in names.items():
        recorded = arrays[f"{prefix(dtype)}{unit}/train/grad/{theirs}"]
        scale = np.abs(recorded).max()
        close(model.get_parameter(ours).grad / scale, recorded / scale, TOLERANCE[dtype])


@PRECISIONS
@UNITS
def test_scores(model, arrays, unit, dtype):
    model.to(dtype)
    interaction = batch(arrays, unit, "eval")
    scores = model.full_sort_predict(interaction)[:, 1:]
    close(scores, arrays[f"{prefix(dtype)}{unit}/eval/scores"], TOLERANCE[dtype])
    target = interaction["item_id"] - 1
    close(
        model.predict(interaction),
        scores.gather(1, target.unsqueeze(1)).squeeze(1).detach(),
        TOLERANCE[dtype],
    )


@PRECISIONS
def test_five_steps_of_adamw(model, arrays, names, dtype):
    model.to(dtype)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0
    )
    for step, recorded in enumerate(arrays[f"{prefix(dtype)}traj/losses"]):
        loss = loss_of(model, batch(arrays, "sec", "train"), arrays["traj/neg_ids"][step])
        close(loss, recorded, TOLERANCE[dtype])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for theirs, ours in names.items():
        close(model.get_parameter(ours), arrays[f"{prefix(dtype)}traj/w/{theirs}"], 1e-6)


@UNITS
def test_ranks_and_metrics(model, arrays, unit):
    """From our model's scores, the history left out, to the recorded ranks and metrics."""
    interaction = batch(arrays, unit, "eval")
    with torch.no_grad():
        scores = model.full_sort_predict(interaction)
    scores.scatter_(1, interaction["item_id_list"], -torch.inf)
    rank = target_ranks(scores, interaction["item_id"]).rank.numpy()
    recorded = arrays[f"{unit}/eval/ranks"]
    assert np.array_equal(np.minimum(rank, 41), recorded)  # 41: not among the 40 kept
    for theirs, ours in (("hr@10", "hit@10"), ("ndcg@10", "ndcg@10"), ("hr@1", "hit@1")):
        recorded_mean = arrays[f"{unit}/eval/metrics_mean/{theirs}"]
        assert mean_metrics(rank, [ours])[ours] == pytest.approx(recorded_mean, abs=1e-6)
