"""Recent counts as a term of the score: what is counted, where it enters, and that it is kept."""

import math

import pytest
import torch
from hstu_batches import make_batch, make_model, outcome
from served import all_but_last, events, metrics_of, trained

from recbole_hstu import Recommender
from recbole_hstu.layers.items.recent_counts import SECONDS_A_DAY, RecentCounts
from recbole_hstu.support.errors import InputError

N_ITEMS = 61


def counts(days, items, times, n_items=5, dtype=torch.float64):
    given = {"items": torch.tensor(items), "times": torch.tensor(times)}
    made = RecentCounts(n_items=n_items, days=days, **given).to(dtype)
    made.weight.data = 1.0 + torch.arange(len(days), dtype=dtype)
    return made


@pytest.mark.parametrize("unit", [1, 1000])
def test_each_window_ends_where_the_bin_of_the_time_begins(unit):
    """Against a loop over the events, in the words of the docstring."""
    generator = torch.Generator().manual_seed(0)
    day, first = SECONDS_A_DAY * unit, 1_600_000_000 * unit
    times = first + torch.randint(0, 60 * day, (200,), generator=generator)
    times[0], items = first, torch.randint(1, 5, (200,), generator=generator)
    made, size = counts([4, 12], items.tolist(), times.tolist()), day  # a quarter of 4 days
    asked = first + torch.randint(-3 * day, 80 * day, (9,), generator=generator)
    found = made.at(made.places(asked))
    last = (int(times.max()) - first) // size + 1
    for row, time in zip(found, asked.tolist(), strict=True):
        end = min(max((time - first) // size, 0), last) * size + first
        for item in range(5):
            own = times[items == item]
            inside = [int(((own >= end - n * day) & (own < end)).sum()) for n in (4, 12)]
            expected = math.log1p(inside[0]) + 2 * math.log1p(inside[1])
            assert row[item].item() == pytest.approx(expected, rel=1e-6)
    pairs = torch.randint(0, 5, (9, 7), generator=generator)
    torch.testing.assert_close(made.of_pairs(asked, pairs), found.gather(1, pairs))
    torch.testing.assert_close(made.at(made.places(asked), torch.tensor([3, 1])), found[:, [3, 1]])
    torch.testing.assert_close(made.at(made.places(asked), slice(2, 4)), found[:, 2:4])


def test_new_items_have_no_events():
    made = counts([4], [1, 2, 2], [0, 0, 0], n_items=3)
    before, places = made.at(torch.tensor([1])), torch.tensor([1])
    made.add_items(2)
    torch.testing.assert_close(made.at(places), torch.cat([before, torch.zeros(1, 2)], dim=1))
    pairs = made.of_pairs(torch.tensor([SECONDS_A_DAY]), torch.tensor([[2, 4]]))
    torch.testing.assert_close(pairs, torch.cat([before[:, 2:], torch.zeros(1, 1)], dim=1))


def with_counts(**options):
    """A small HSTU whose items have events."""
    model = make_model(recent_days=[500, 2000], **options)
    generator = torch.Generator().manual_seed(1)
    items = torch.randint(1, N_ITEMS, (400,), generator=generator)
    times = torch.randint(0, 10**9, (400,), generator=generator)
    made = RecentCounts(n_items=N_ITEMS, days=[500, 2000], items=items, times=times)
    made.weight.data = torch.tensor([0.3, -0.2])
    model.recent = made.double()
    return model


@pytest.mark.parametrize("query_time", ["target", "last"])
@pytest.mark.parametrize("loss_type", ["sampled", "shared"])
@pytest.mark.parametrize("num_negatives", [2, 64])  # fewer items than the catalogue has, or not
def test_the_loss_is_that_of_the_scores(loss_type, num_negatives, query_time):
    """Rows of one event: their query is the last one, which `full_sort_predict` scores."""
    options = {"loss_type": loss_type, "num_negatives": num_negatives, "query_time": query_time}
    model, batch = with_counts(**options), make_batch([1] * 6)
    model.draws.at(0, 0)
    drawn = model.draw_negatives(batch["item_length"], torch.arange(6))
    scores, target = model.full_sort_predict(batch), batch["item_id"].unsqueeze(1)
    logits = scores.gather(1, torch.cat([target, drawn.expand(6, -1)], dim=1)) / model.temperature
    hits = torch.nn.functional.pad(drawn == target, (1, 0))
    expected = -logits.masked_fill(hits, -5e4).log_softmax(1)[:, 0].mean()
    loss, *gradients = outcome(model, batch)
    torch.testing.assert_close(loss, expected.detach())
    assert gradients[[name for name, _ in model.named_parameters()].index("recent.weight")].all()
    torch.testing.assert_close(model.predict(batch), scores.gather(1, target).squeeze(1))


def test_losses_without_a_term_and_windows_without_length_are_refused():
    with pytest.raises(InputError, match="recent_days: loss_type full compares vectors alone"):
        make_model(recent_days=[4], loss_type="full")
    for days in ([], [0], ["4"]):
        with pytest.raises(InputError, match=r"recent_days: .* must be days of windows"):
            make_model(recent_days=days)
    with pytest.raises(InputError, match=r"would take 7\.5 GiB; a longer shortest window"):
        counts([4e-3], [1, 1], [0, SECONDS_A_DAY * 2000], n_items=1000)


def test_a_checkpoint_brings_the_events(toy):
    """The lists of a served model are those that were judged: no data set is at hand there."""
    result = trained("HSTU", recent_days=[2, 8], learning_rate=0.1)
    state = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert len(state["recent.items"]) > 100 and (state["recent.weight"] != 0.02).all()
    rec = Recommender.load(result["checkpoint"])
    histories, targets = all_but_last(events())
    lists = rec.recommend(histories, k=30, at=targets["time"], exclude_seen=False)
    for name, value in metrics_of(lists, targets, 5).items():
        assert result["test_result"][name] == pytest.approx(value, abs=1e-6), name
