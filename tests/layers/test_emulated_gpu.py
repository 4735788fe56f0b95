"""What can be said of a GPU without one: nothing crosses over unasked, the results are the CPU's,
and a step waits for the GPU no oftener than it must."""

import pytest
import torch
from emulated_gpu import DEVICE, Elsewhere, EmulatedGPU, Generator
from hstu_batches import make_batch, make_model, text_model

from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.layers import losses
from recbole_hstu.model.sasrecss import SASRecSS

LENGTHS = [5, 12, 1, 9, 12, 3]
SOFTMAX = {"qk_size": None, "v_size": None, "inner_size": 24}
MODELS = {
    "HSTU": lambda text_file, **options: make_model(**options),
    "HSTUText": text_model,
    "SASRecSS": lambda text_file, **options: make_model(cls=SASRecSS, **SOFTMAX, **options),
}

# Lengths of rows, options, and how often a step of HSTU waits: for the number of positions and for
# the lengths of the rows; and for how many items it touches, where these are not all.
STEPS = [
    (LENGTHS, {"loss_type": "sampled"}, 2),
    ([2, 1, 3], {"loss_type": "sampled", "num_negatives": 4}, 3),
    (LENGTHS, {"loss_type": "sampled", "stochastic_length_alpha": 1.5}, 2),
    (LENGTHS, {"loss_type": "shared", "logq_correction": True}, 2),
    (LENGTHS, {"loss_type": "full"}, 2),
]


def moved(batch):
    return {key: values.to(DEVICE) for key, values in batch.items()}


def there(model):
    """The model on the emulated GPU, its negatives drawn as they were on the CPU."""
    model.to(DEVICE).draws._of_row = Generator()
    return model


def step(model, batch):
    """The loss, and the gradient of every parameter, on the CPU."""
    loss = model.calculate_loss(batch)
    loss.backward()
    grads = {name: p.grad.to("cpu") for name, p in model.named_parameters()}
    model.zero_grad()
    return {"loss": loss.detach().to("cpu"), **grads}


def scores_with_ties(model, batch):
    return model.full_sort_predict(batch).detach().round(decimals=1)


def test_the_emulation_refuses_what_cuda_refuses():
    here = torch.arange(3.0)
    with EmulatedGPU():
        elsewhere = here.to(DEVICE)
        assert isinstance(elsewhere, Elsewhere) and elsewhere.is_cuda
        writable = elsewhere.clone()
        refused = (
            lambda: elsewhere + here,
            lambda: here[elsewhere.long()],
            lambda: writable.index_put_((elsewhere.long(),), here),
            lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
            lambda: writable.uniform_(generator=torch.Generator()),
        )
        for mixed in refused:
            with pytest.raises(RuntimeError, match=r"emulated GPU|another device"):
                mixed()


def test_the_emulation_waits_when_cuda_waits():
    with EmulatedGPU() as gpu:
        x = torch.arange(3.0).to(DEVICE)
        y, mask = x.clone(), x > 0
        gpu.waits.clear()
        for free in (
            lambda: y.copy_(x),
            lambda: x[x.long()],
            lambda: y.masked_fill_(mask, 0),
            lambda: y.index_put_((mask,), x.new_ones(())),
            lambda: torch.tensor([1, 2]).to(DEVICE, non_blocking=True),
            lambda: torch.repeat_interleave(x.long(), output_size=3),
        ):
            free()
            assert not gpu.waits
        waiting = (
            x.tolist,
            lambda: x.sum().item(),
            lambda: x[mask],
            x.nonzero,
            lambda: x[torch.tensor([1, 2])],
            lambda: y.index_put_((mask,), x[1:]),
            lambda: torch.tensor([1, 2], device=DEVICE),
            lambda: torch.repeat_interleave(x.long()),
        )
        for done, waits in enumerate(waiting):
            waits()
            assert gpu.waits.total() == done + 1


def check_step(model, batch):
    expected = step(model, batch)
    model.draws.at(0, 0)
    with EmulatedGPU():
        found = step(there(model), moved(batch))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("lengths", "options"), [case[:2] for case in STEPS])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_on_another_device_is_the_same(name, lengths, options, text_file):
    check_step(MODELS[name](text_file, **options), make_batch(lengths))


def test_so_is_one_that_gathers_its_negatives(text_file, monkeypatch):
    monkeypatch.setitem(losses.DENSE_COLUMNS, "gather", 0)
    check_step(text_model(text_file), make_batch(LENGTHS))


@pytest.mark.parametrize("name", MODELS)
def test_ranks_on_another_device_are_the_same(name, text_file):
    model, batch = MODELS[name](text_file), make_batch(LENGTHS)
    expected = target_ranks(scores_with_ties(model, batch), batch["item_id"])
    with EmulatedGPU():
        batch = moved(batch)
        scores = scores_with_ties(there(model), batch)
        found = [part.to("cpu") for part in target_ranks(scores, batch["item_id"])]
    torch.testing.assert_close(found, list(expected))


@pytest.mark.parametrize(("lengths", "options", "waits"), STEPS)
def test_a_step_waits_no_oftener_than_it_must(lengths, options, waits):
    model, batch = make_model(**options).train(), make_batch(lengths)
    with EmulatedGPU() as gpu:
        model, batch = there(model), moved(batch)
        gpu.waits.clear()
        model.calculate_loss(batch).backward()
    assert gpu.waits.total() == waits, gpu.waits
