"""Terms of HSTU's score: where they enter, and that a checkpoint keeps them."""

import pytest
import torch
from hstu_batches import make_batch, make_model, outcome
from served import all_but_last, events, metrics_of, trained

from recbole_hstu import Recommender
from recbole_hstu.data.rows.sequence_rows import OWN_TARGETS
from recbole_hstu.layers.blocks.packing import Packing
from recbole_hstu.layers.items.recent_counts import RecentCounts
from recbole_hstu.layers.items.transition_term import TransitionTerm
from recbole_hstu.support.errors import InputError

N_ITEMS = 61


def with_terms(terms, **options):
    """A small HSTU whose items have events."""
    model = make_model(**options)
    generator = torch.Generator().manual_seed(1)
    items = torch.randint(1, N_ITEMS, (400,), generator=generator)
    times = torch.randint(0, 10**9, (400,), generator=generator)
    if "recent" in terms:
        made = RecentCounts(n_items=N_ITEMS, days=[500, 2000], items=items, times=times)
        made.weight.data = torch.tensor([0.3, -0.2])
        model.recent = made.double()
    if "transitions" in terms:
        user = torch.arange(400) // 8
        model.transitions = TransitionTerm(n_items=N_ITEMS, steps=4, user=user, item=items).double()
    return model


@pytest.mark.parametrize(
    ("terms", "query_time"),
    [
        (["recent"], "target"),
        (["recent"], "last"),
        (["transitions"], "target"),
        (["recent", "transitions"], "last"),
    ],
)
@pytest.mark.parametrize(
    ("loss_type", "num_negatives"),  # fewer items than the catalogue has, or not
    [("sampled", 2), ("sampled", 64), ("shared", 2), ("shared", 64), ("full", 2)],
)
def test_the_loss_is_that_of_the_scores(terms, loss_type, num_negatives, query_time):
    """Rows of one event: their query is the last one, which `full_sort_predict` scores."""
    options = {"loss_type": loss_type, "num_negatives": num_negatives, "query_time": query_time}
    model, batch = with_terms(terms, **options), make_batch([1] * 6)
    model.draws.at(0, 0)
    drawn = model.draw_negatives(batch["item_length"], torch.arange(6))
    if drawn is None:
        drawn = torch.arange(1, N_ITEMS)
    scores, target = model.full_sort_predict(batch), batch["item_id"].unsqueeze(1)
    items = torch.cat([target, drawn.expand(6, -1)], dim=1)
    logits = scores.gather(1, items)
    if model.transitions:  # the target is no longer counted
        last = torch.nn.functional.pad(batch["item_id_list"][:, :1], (0, 3))
        logits[:, 0] -= model.transitions.at(last).gather(1, target).squeeze(1)
        logits[:, 0] += model.transitions.in_training(last, items)[:, 0]
    logits = logits / model.temperature
    hits = torch.nn.functional.pad(drawn == target, (1, 0))
    expected = -logits.masked_fill(hits, -5e4).log_softmax(1)[:, 0].mean()
    weights = dict(model.named_parameters())
    plain = torch.autograd.grad(expected, list(weights.values()))
    torch.testing.assert_close(outcome(model, batch), [expected.detach(), *plain])
    gradients = dict(zip(weights, plain, strict=True))
    assert all(gradients[f"{term}.weight"].all() for term in terms)
    torch.testing.assert_close(model.predict(batch), scores.gather(1, target).squeeze(1))


@pytest.mark.parametrize("windows", [None, [2, 1, 3]])
def test_every_position_has_its_own_history(windows):
    """In a table of the items in use, whose rows the batch names; of windows the last positions."""
    model, batch = with_terms(["transitions"]), make_batch([3, 1, 5])
    packing = Packing(batch["item_length"])
    where = range(len(packing.source))
    if windows:
        batch[OWN_TARGETS] = torch.tensor(windows)
        first = batch["item_length"] - batch[OWN_TARGETS]
        where = [t for t in where if packing.positions[t] >= first[packing.source[t]]]
    mine = model.learns_at(batch, packing)
    rows = torch.cat([torch.zeros(1, dtype=int), torch.randperm(N_ITEMS - 1) + 1])
    items = torch.randint(1, N_ITEMS, (len(where), 3))
    keys = model.term_keys_in_training(batch, packing, mine, rows)
    found = model.terms_in_training(keys, rows[items])
    for place, t in enumerate(where):
        history = batch["item_id_list"][packing.source[t], : packing.positions[t] + 1]
        last = torch.nn.functional.pad(rows[history.flip(0)][:4], (0, max(0, 4 - len(history))))
        own = model.transitions.in_training(last.unsqueeze(0), rows[items[place]].unsqueeze(0))
        torch.testing.assert_close(found[place], own.squeeze(0))
    assert found.unique().numel() > len(where)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transition_steps": 1000}, "transition_steps: 1000 is more than MAX_ITEM_LIST_LENGTH"),
        ({"transition_steps": 3, "loss_type": "gbce"}, "transition_steps: loss_type gbce compares"),
        ({"transition_steps": 3, "stochastic_length_alpha": 1.6}, "transition_steps counts the st"),
    ],
)
def test_losses_without_a_term_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        make_model(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"recent_days": [2, 8]},
        {"transition_steps": 3},
        {"recent_days": [2, 8], "transition_steps": 3},
    ],
)
def test_a_checkpoint_brings_what_is_counted(options, toy):
    """The lists of a served model are those that were judged: no data set is at hand there."""
    result = trained("HSTU", learning_rate=0.1, **options)
    state = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    weights = [state[name] for name in ("recent.weight", "transitions.weight") if name in state]
    assert len(weights) == len(options) and all((weight != 0.02).all() for weight in weights)
    rec = Recommender.load(result["checkpoint"])
    histories, targets = all_but_last(events())
    lists = rec.recommend(histories, k=30, at=targets["time"], exclude_seen=False)
    for name, value in metrics_of(lists, targets, 5).items():
        assert result["test_result"][name] == pytest.approx(value, abs=1e-6), name
