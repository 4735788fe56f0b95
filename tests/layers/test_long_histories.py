"""Long histories: attention block by block, activations computed again, stochastic length."""

import pytest
import torch
from hstu_batches import LENGTHS, make_batch, make_model, outcome
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_hstu.config.config import Config
from recbole_hstu.layers.blocks import hstu_block as layers
from recbole_hstu.layers.blocks.stochastic_length import keep, kept_events, kept_lengths
from recbole_hstu.support.errors import InputError


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("limit", [1, 100, 400])
def test_blocks_of_queries_change_nothing(limit, monkeypatch):
    batch = make_batch(LENGTHS)
    whole = outcome(make_model(), batch)
    scores = make_model().full_sort_predict(batch)
    monkeypatch.setitem(layers.MAX_SCORES, "cpu", limit)
    torch.testing.assert_close(outcome(make_model(), batch), whole)
    torch.testing.assert_close(make_model().full_sort_predict(batch), scores)


def test_blocks_never_hold_the_scores_of_all_positions(monkeypatch):
    """Neither forward nor backward: 2 rows, 2 heads, 400 positions."""
    options = {"MAX_ITEM_LIST_LENGTH": 400, "num_negatives": 4, "n_layers": 1}
    model = make_model(**options)
    batch = make_batch([400, 390], width=400)
    with Largest() as seen:
        outcome(model, batch)
    assert seen.elements >= 2 * 2 * 400 * 400
    monkeypatch.setitem(layers.MAX_SCORES, "cpu", 64_000)
    with Largest() as seen:
        outcome(model, batch)
    assert seen.elements <= 64_000


def test_checkpointed_activations_change_nothing():
    torch.manual_seed(5)
    plain = outcome(make_model().train(), make_batch(LENGTHS))  # with dropout
    torch.manual_seed(5)
    model = make_model(activation_checkpointing=True).train()
    torch.testing.assert_close(outcome(model, make_batch(LENGTHS)), plain)


def drawn(lengths, alpha, seed):
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(lengths), generator=generator)
    order = torch.rand(len(lengths), int(lengths.max()), generator=generator)
    return kept_events(lengths, kept_lengths(lengths, chance, alpha=alpha, longest=40), order)


def shortened(model, batch):
    kept = model.shortened_lengths(batch["item_length"])
    return model.shortened(batch, kept, torch.arange(len(kept)))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.floats(1.05, 2),
    st.integers(0, 99),
)
def test_stochastic_length_keeps_all_or_the_target(lengths, alpha, seed):
    lengths = torch.tensor(lengths)
    kept = drawn(lengths, alpha, seed)
    target = int(40 ** (alpha / 2))
    assert not kept[torch.arange(kept.shape[1]) >= lengths.unsqueeze(1)].any()
    for n, left in zip(lengths.tolist(), kept.sum(1).tolist(), strict=True):
        assert left == n or (n > target and left == target)
    events = torch.arange(1, kept.shape[1] + 1).expand(len(lengths), -1)
    width = int(kept.sum(1).max())
    for row, line in zip(kept, keep(events, kept, width), strict=True):
        expected = (row.nonzero().squeeze(1) + 1).tolist()
        assert line.tolist() == expected + [0] * (len(line) - len(expected))


def test_stochastic_length_keeps_whole_histories_as_often_as_the_paper_says():
    lengths = torch.full((20_000,), 30)
    kept = drawn(lengths, 1.6, 0)
    whole = (kept.sum(1) == 30).double().mean().item()
    assert whole == pytest.approx(40**1.6 / 30**2, abs=0.01)
    shortened = kept[kept.sum(1) < 30]
    assert shortened.sum(1).unique().tolist() == [int(40**0.8)]
    assert shortened.double().mean(0).std().item() < 0.02  # any event as often as any other


def test_stochastic_length_shortens_training_alone():
    batch = make_batch(LENGTHS)
    whole, short = make_model(), make_model(stochastic_length_alpha=1.1)
    torch.testing.assert_close(short.full_sort_predict(batch), whole.full_sort_predict(batch))
    lengths = shortened(short, batch)["item_length"]
    assert lengths.max() < 12
    assert lengths.sum() < sum(LENGTHS)
    assert not torch.equal(outcome(short, batch)[0], outcome(whole, batch)[0])
    everything = make_model(stochastic_length_alpha=2.0)
    assert torch.equal(shortened(everything, batch)["item_id_list"], batch["item_id_list"])


@pytest.mark.parametrize("alpha", [1.0, 2.5])
def test_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(InputError, match="stochastic_length_alpha"):
        Config("HSTU", "ml-100k", config_dict={"stochastic_length_alpha": alpha})
