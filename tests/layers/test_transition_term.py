"""Transitions as a term of the score: what others had next, without what is asked for."""

import math
from itertools import permutations

import torch

from recbole_hstu.layers.items import transition_term
from recbole_hstu.layers.items.transition_term import TransitionTerm
from recbole_hstu.layers.items.transitions import last_items

STEPS, N_ITEMS = 3, 12


def sequences(n_users=9, seed=0):
    """Users have items twice, also one after the other."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (n_users,), generator=generator).tolist()
    drawn = [torch.randint(1, N_ITEMS - 2, (n,), generator=generator).tolist() for n in lengths]
    return [*drawn, [1, 2, 1, 3], [1, 2, 1], [4, 4, 4, 4]]


def term_of(users):
    user = torch.tensor([u for u, items in enumerate(users) for _ in items])
    item = torch.tensor([item for items in users for item in items])
    made = TransitionTerm(n_items=N_ITEMS, steps=STEPS, user=user, item=item).double()
    made.weight.data.fill_(2.0)
    return made


def score(users, last, item, unseen=None):
    """In the words of the docstring; without what lies between the event `unseen`, (user, place),
    and the events before it."""
    counts = [max(1, sum(items.count(i) for items in users)) for i in range(N_ITEMS)]
    reached = 0.0
    for s, source in enumerate(last, start=1):
        for u, items in enumerate(users):
            for (a, i), (b, j) in permutations(enumerate(items), 2):
                if (i, j) == (source, item) and abs(a - b) <= STEPS:
                    if unseen == (u, max(a, b)):
                        continue
                    reached += (s * abs(a - b)) ** -0.5 * (counts[i] * counts[j]) ** -0.25
    return 2 * math.log1p(reached)


def test_scores_by_counting(monkeypatch):
    monkeypatch.setattr(transition_term, "BLOCK_SCORES", 1)  # sixteen rows at once
    users = sequences(n_users=20)
    last = [items[: -STEPS - 1 : -1] for items in users]
    keys = torch.tensor([(each + [0] * STEPS)[:STEPS] for each in last])
    expected = torch.tensor([[score(users, each, i) for i in range(N_ITEMS)] for each in last])
    found = term_of(users).at(keys)
    torch.testing.assert_close(found, expected.double(), atol=1e-6, rtol=1e-6)
    assert (expected == 0).any()
    items = torch.tensor([5, 2])
    torch.testing.assert_close(term_of(users).at(keys, items), found[:, items])
    pairs = torch.randint(0, N_ITEMS, (20, 4), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(term_of(users).of_pairs(keys, pairs), found.gather(1, pairs))


def test_the_event_that_is_asked_for_is_not_counted():
    """At every position of training."""
    users = sequences()
    made = term_of(users)
    others = torch.arange(1, N_ITEMS)
    for u, items in enumerate(users):
        history = torch.tensor([items[:-1]] * (len(items) - 1))
        at = torch.arange(len(items) - 1)
        last = last_items(history, at, at, STEPS)
        asked = torch.tensor(items[1:]).unsqueeze(1)
        found = made.in_training(last, torch.cat([asked, others.expand(len(at), -1)], dim=1))
        torch.testing.assert_close(found[:, 1:], made.at(last)[:, 1:])
        for place, value in enumerate(found[:, 0].tolist()):
            known = [i for i in last[place].tolist() if i]
            expected = score(users, known, items[place + 1], unseen=(u, place + 1))
            assert math.isclose(value, expected, abs_tol=1e-6)


def test_of_many_neighbours_the_heaviest_count(monkeypatch):
    """What is taken out of a target that was cut off leaves nothing, not less."""
    users = sequences(n_users=20)
    whole = term_of(users)
    monkeypatch.setattr(transition_term, "N_NEIGHBOURS", 3)
    made, keys = term_of(users), torch.arange(N_ITEMS).unsqueeze(1)
    every = whole.at(keys)
    order = every.sort(dim=1, descending=True, stable=True).indices
    kept = torch.zeros_like(every).scatter_(1, order[:, :3], 1)
    torch.testing.assert_close(made.at(keys), every * kept)
    cut_off = every.masked_fill(kept == 1, 0).argmax(1)
    assert (every.gather(1, cut_off.unsqueeze(1)) > 0).sum() > N_ITEMS / 2
    assert not made.in_training(keys, cut_off.unsqueeze(1)).any()


def test_no_transition_reaches_new_items():
    made, keys = term_of(sequences()), torch.tensor([[1, 2, 3]])
    before = made.at(keys)
    made.add_items(2)
    torch.testing.assert_close(made.at(keys), torch.cat([before, torch.zeros(1, 2)], dim=1))
    none = made.at(torch.tensor([[N_ITEMS, N_ITEMS + 1, 0]]))
    assert not none.any()
