"""LazyAdamW against torch's AdamW, on rows that are used now and then."""

import pytest
import torch
import torch.nn.functional as F
from hstu_batches import make_model
from small_data import random_rows, small_options, weights, write_inter

from recbole_hstu.distributed import processes
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.tables.item_table import lazy_adamw
from recbole_hstu.training.tables.lazy_adamw import LazyAdamW

V, D = 40, 3


def pair(dtype=torch.float64, eps=1e-40, **settings):
    """The same table and weights under AdamW and under LazyAdamW."""
    settings = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1, **settings}
    made = []
    for kind in (torch.optim.AdamW, LazyAdamW):
        torch.manual_seed(0)
        table = torch.nn.Parameter(torch.randn(V, D, dtype=dtype))
        other = torch.nn.Parameter(torch.randn(D, dtype=dtype))
        more = (table,) if kind is LazyAdamW else ()
        optimizer = kind([table, other], *more, **settings)
        optimizer.param_groups[0]["eps"] = eps
        made.append((table, other, optimizer))
    return made


def used_rows(step):
    """Row 1 once in the beginning, rows 2.. in some steps, the last one never."""
    drawn = torch.randint(2, V - 1, (5,), generator=torch.Generator().manual_seed(step))
    return torch.cat([drawn, torch.tensor([1])]) if step < 2 else drawn


def train(table, other, optimizer, steps, lazy, first=0):
    for step in range(first, first + steps):
        rows = used_rows(step)
        whole = step % 7 == 6  # now and then all rows
        if lazy:
            optimizer.catch_up(None if whole else rows.unique())
        vectors = table[rows] if whole or not lazy else F.embedding(rows, table, sparse=True)
        loss = ((vectors * other).sum(-1) - step % 3).square().sum()
        loss = loss + table.square().sum() * 1e-2 if whole else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"betas": (0.0, 0.9), "weight_decay": 0.0},
        {"betas": (0.5, 0.999), "lr": 0.1},
        {"betas": (0.98, 0.98), "weight_decay": 0.0, "lr": 0.001},
    ],
)
def test_it_is_adamw(settings):
    dense, lazy = pair(**settings)
    train(*dense, 60, lazy=False)
    train(*lazy, 60, lazy=True)
    lazy[2].catch_up()
    torch.testing.assert_close(lazy[0], dense[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(lazy[1], dense[1], rtol=1e-9, atol=1e-12)


def test_with_eps_and_float32_it_is_as_near_as_that():
    dense, lazy = pair(torch.float32, eps=1e-8)
    train(*dense, 200, lazy=False)
    train(*lazy, 200, lazy=True)
    lazy[2].catch_up()
    torch.testing.assert_close(lazy[0], dense[0], rtol=1e-4, atol=1e-5)


def test_a_step_leaves_other_rows_alone():
    _, (table, other, optimizer) = pair()
    train(table, other, optimizer, 3, lazy=True)
    before, moments = table.detach().clone(), optimizer.state[table]["exp_avg"].clone()
    train(table, other, optimizer, 1, lazy=True, first=3)
    idle = torch.ones(V, dtype=torch.bool)
    idle[used_rows(3)] = False
    assert torch.equal(table[idle], before[idle])
    assert torch.equal(optimizer.state[table]["exp_avg"][idle], moments[idle])
    assert (table[~idle] != before[~idle]).all()


def test_adamw_goes_on_from_its_state_and_it_from_adamws():
    dense, lazy = pair()
    train(*dense, 20, lazy=False)
    train(*lazy, 20, lazy=True)
    states = [optimizer.state_dict() for *_, optimizer in (dense, lazy)]
    (one, one_other, as_dense), (two, two_other, as_lazy) = pair()
    with torch.no_grad():
        for mine, theirs in zip((one, one_other), lazy[:2], strict=True):
            mine.copy_(theirs)
        for mine, theirs in zip((two, two_other), dense[:2], strict=True):
            mine.copy_(theirs)
    as_dense.load_state_dict(states[1])
    as_lazy.load_state_dict(states[0])
    train(one, one_other, as_dense, 20, lazy=False, first=20)
    train(two, two_other, as_lazy, 20, lazy=True, first=20)
    as_lazy.catch_up()
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)


def test_betas_whose_momentum_outlives_its_measure_are_refused():
    with pytest.raises(ValueError, match="the first must be below the root of the second"):
        pair(betas=(0.9, 0.8))
    with pytest.raises(ValueError, match="the first must be"):
        pair(betas=(0.9, 0.0))


def options(**more):
    # One row of up to 8 events and 4 negatives a step: fewer items than the 30 there are.
    few = {"train_batch_size": 1, "loss_type": "shared", "num_negatives": 4, "weight_decay": 0.01}
    return small_options(**few, checkpoint_dir=more.get("learner", "resumed"), **more)


def test_a_training_is_that_of_adamw_and_goes_on_after_an_end():
    write_inter(random_rows(n_users=12))
    runs = {}
    for learner in ("adamw", "lazy_adamw"):
        runs[learner] = run("HSTU", "toy", config_dict=options(learner=learner))
    one, two = runs.values()
    for first, second in zip(one["record"].history, two["record"].history, strict=True):
        assert second.train_loss == pytest.approx(first.train_loss, rel=1e-5)
    last = [done["checkpoint"].with_suffix(".last.pth") for done in (one, two)]
    expected, found = map(weights, last)
    torch.testing.assert_close(found["items.ids"], expected["items.ids"], rtol=1e-4, atol=1e-5)
    cut = options(learner="lazy_adamw", train_seconds=1e-9)
    cut["checkpoint_dir"] = "resumed"
    first = run("HSTU", "toy", config_dict=cut)
    assert first["record"].epochs == 1
    last_of_cut = first["checkpoint"].with_suffix(".last.pth")
    cut |= {"resume": str(last_of_cut), "train_seconds": None}
    run("HSTU", "toy", config_dict=cut)
    for name, value in weights(last_of_cut).items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (
            "SASRec",
            {},
            "learner: lazy_adamw trains the item ids of models of the HSTU family; SASRec",
        ),
        ("HSTU", {"clip_grad_norm": {"max_norm": 1.0}}, "clip_grad_norm: is the norm of all"),
        ("HSTU", {"enable_scaler": True}, "enable_scaler: lazy_adamw does not scale losses"),
        ("HSTU", {"adam_betas": [0.9, 0.5]}, "adam_betas: betas .0.9, 0.5.: the first must be"),
    ],
)
def test_what_it_cannot_do_is_said(model, more, message):
    write_inter(random_rows(n_users=12))
    with pytest.raises(InputError, match=message):
        run(model, "toy", config_dict=small_options(model, learner="lazy_adamw", **more))


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(
        InputError, match="lazy_adamw trains in one process, or a sharded table; leave --nproc out"
    ):
        lazy_adamw(make_model(), {}, [], 0.1, 0.0)


def test_the_best_weights_stay_what_they_were_when_they_are_taken_back(toy):
    more = {"epochs": 3, "eval_step": 2, "learning_rate": 0.01}  # nothing reads all rows at the end
    found = []
    for learner in ("adamw", "lazy_adamw"):
        given = options(learner=learner, **more)
        model = run("HSTU", "toy", config_dict=given, saved=False, with_model=True)["trained"].model
        found.append(model.items.ids)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
