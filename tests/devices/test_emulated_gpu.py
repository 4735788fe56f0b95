"""What can be said of a GPU without one: nothing crosses over unasked, the results are the CPU's,
and a step waits for the GPU no oftener than it must."""

import pytest
import torch
from emulated_gpu import DEVICE, Elsewhere, EmulatedGPU, Generator
from test_hstu_properties import make_batch, make_model, text_model

from recbole_hstu.evaluation.ranks import target_ranks
from recbole_hstu.model.sasrecss import SASRecSS

LENGTHS = [5, 12, 1, 9, 12, 3]
SOFTMAX = {"qk_size": None, "v_size": None, "inner_size": 24}
MODELS = {
    "HSTU": lambda text_file, **options: make_model(**options),
    "HSTUText": text_model,
    "SASRecSS": lambda text_file, **options: make_model(cls=SASRecSS, **SOFTMAX, **options),
}

STEPS = [
    (LENGTHS, {"loss_type": "sampled"}),
    (LENGTHS, {"loss_type": "sampled", "stochastic_length_alpha": 1.5}),
    ([2, 1, 3], {"loss_type": "sampled", "num_negatives": 4}),  # touches a part of the items
    (LENGTHS, {"loss_type": "shared", "logq_correction": True}),
    (LENGTHS, {"loss_type": "full"}),
]


def moved(batch):
    return {key: values.to(DEVICE) for key, values in batch.items()}


def there(model):
    """The model on the emulated GPU, its negatives drawn as they were on the CPU."""
    state = model.generator.get_state()
    model.to(DEVICE).generator = Generator()
    model.generator.set_state(state)
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
    with EmulatedGPU() as gpu:
        elsewhere = here.to(DEVICE)
        assert isinstance(elsewhere, Elsewhere) and elsewhere.is_cuda
        refused = (
            lambda: elsewhere + here,
            lambda: here[elsewhere.long()],
            lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        )
        for mixed in refused:
            with pytest.raises(RuntimeError, match=r"emulated GPU|another device"):
                mixed()
        assert not gpu.waits
        assert (elsewhere * 2).tolist() == [0, 2, 4]
        assert elsewhere[elsewhere > 0].sum().item() == 3
        assert dict(gpu.waits) == {
            "aten::_to_copy": 1,
            "aten::index.Tensor": 1,
            "aten::_local_scalar_dense": 1,
        }


@pytest.mark.parametrize(("lengths", "options"), STEPS)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_on_another_device_is_the_same(name, lengths, options, text_file):
    model, batch = MODELS[name](text_file, **options), make_batch(lengths)
    state = model.generator.get_state()
    expected = step(model, batch)
    model.generator.set_state(state)
    with EmulatedGPU():
        found = step(there(model), moved(batch))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_ranks_on_another_device_are_the_same(name, text_file):
    model, batch = MODELS[name](text_file), make_batch(LENGTHS)
    seen = torch.tensor([0, 1, 5]), torch.tensor([7, 8, 60])
    expected = target_ranks(scores_with_ties(model, batch), batch["item_id"], seen=seen)
    with EmulatedGPU():
        batch, seen = moved(batch), tuple(part.to(DEVICE) for part in seen)
        scores = scores_with_ties(there(model), batch)
        found = [part.to("cpu") for part in target_ranks(scores, batch["item_id"], seen=seen)]
    torch.testing.assert_close(found, list(expected))


@pytest.mark.parametrize(("loss_type", "waits"), [("sampled", 2), ("shared", 2), ("full", 2)])
def test_a_step_waits_for_how_many_positions_there_are_and_how_long_the_rows_are(loss_type, waits):
    model, batch = make_model(loss_type=loss_type).train(), make_batch(LENGTHS)
    with EmulatedGPU() as gpu:
        model, batch = there(model), moved(batch)
        gpu.waits.clear()
        model.calculate_loss(batch).backward()
    assert gpu.waits.total() == waits, gpu.waits
