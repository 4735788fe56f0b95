"""Recent counts as a term of the score: what is counted."""

import math

import pytest
import torch
from hstu_batches import make_model

from recbole_hstu.layers.items.recent_counts import SECONDS_A_DAY, RecentCounts
from recbole_hstu.support.errors import InputError


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
    torch.testing.assert_close(made.of_pairs(made.places(asked), pairs), found.gather(1, pairs))
    torch.testing.assert_close(made.at(made.places(asked), torch.tensor([3, 1])), found[:, [3, 1]])
    torch.testing.assert_close(made.at(made.places(asked), slice(2, 4)), found[:, 2:4])


def test_new_items_have_no_events():
    made = counts([4], [1, 2, 2], [0, 0, 0], n_items=3)
    before, places = made.at(torch.tensor([1])), torch.tensor([1])
    made.add_items(2)
    torch.testing.assert_close(made.at(places), torch.cat([before, torch.zeros(1, 2)], dim=1))
    pairs = made.of_pairs(places, torch.tensor([[2, 4]]))
    torch.testing.assert_close(pairs, torch.cat([before[:, 2:], torch.zeros(1, 1)], dim=1))


def test_windows_without_length_are_refused():
    for days in ([], [0], ["4"], [4, math.inf], [4, 1e300]):
        with pytest.raises(InputError, match=r"recent_days: .* must be days of windows"):
            make_model(recent_days=days)
    with pytest.raises(InputError, match=r"would take 7\.5 GiB; a longer shortest window"):
        counts([4e-3], [1, 1], [0, SECONDS_A_DAY * 2000], n_items=1000)
    with pytest.raises(InputError, match="too many bins of 1; a longer shortest window"):
        counts([1e-5], [1, 1], [0, 2**33])  # bins beyond int32


def test_events_that_come_later_count_as_if_they_had_been_there():
    """Those before the first one as the first."""
    day = SECONDS_A_DAY
    items, times = [1, 2, 3, 2, 4, 2], [9 * day, 10 * day, 20 * day, 5 * day, 50 * day, 51 * day]
    made = counts([4], items[:3], times[:3])
    whole = counts([4], items, [*times[:3], 9 * day, *times[4:]])
    made.add_events(torch.tensor(items[3:]), torch.tensor(times[3:]))
    torch.testing.assert_close(made.table, whole.table)
    assert (made.at(made.places(torch.tensor([51 * day + 1]))) > 0).sum() == 1


def test_who_knows_all_events_keeps_them_when_weights_come():
    """A checkpoint of another cut would count some of them twice or not at all."""
    items, times = torch.tensor([1, 2, 3, 2, 4]), SECONDS_A_DAY * torch.arange(5, 10)

    def made(n, further):
        given = {"items": items[:n], "times": times[:n]}
        return RecentCounts(n_items=5, days=[4], **given, further=further)

    short = made(2, None)
    all_known, served = made(4, (items[4:], times[4:])), made(4, None)
    before = all_known.table.clone()
    for counts_of in (all_known, served):
        counts_of.load_state_dict(short.state_dict())
    assert torch.equal(all_known.table, before)
    assert torch.equal(served.table, short.table)


def test_microseconds_are_no_unit():
    with pytest.raises(InputError, match="is neither in seconds nor in milliseconds"):
        counts([7], [1, 2], [0, 1_600_000_000_000_000])


def test_the_unit_is_that_of_the_newest_event():
    """Of milliseconds one may lie near the beginning of the clock."""
    newest = 1_600_000_000_000
    made = counts([4000], [1, 2], [0, newest])
    made.add_events(torch.tensor([3]), torch.tensor([newest + 1]))
    with pytest.raises(InputError, match="not in the unit of the training"):
        made.add_events(torch.tensor([3]), torch.tensor([newest // 1000]))
