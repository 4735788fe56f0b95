"""RQ-VAE: what the loss is made of, and what keeps its codes in use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from semantic_ids import hierarchy

from recbole_hstu.semantic_ids.rqvae import RQVAE, quantise
from recbole_hstu.support.errors import InputError

OPTIONS = {
    "level_sizes": [8, 8],
    "hidden_sizes": [8],
    "latent_size": 3,
    "commitment_weight": 0.25,
    "max_iterations": 20,
    "ids_epochs": 3,
    "ids_batch_size": 64,
    "ids_learning_rate": 0.01,
}


@pytest.fixture
def items():
    return torch.from_numpy(hierarchy(branches=3)[0])


@pytest.fixture
def model(items):
    return RQVAE(items.shape[1], [8], 3, [8, 8], torch.Generator().manual_seed(0))


def test_the_loss_is_the_papers(model, items):
    model.start_codes(items, 20, seed=0)
    with torch.no_grad():
        latents = model.encoder(items)
        left, quantised, to_codes = latents, 0, 0
        for book in model.codebooks:
            chosen = book[((left.unsqueeze(1) - book) ** 2).sum(-1).argmin(1)]
            to_codes = to_codes + ((left - chosen) ** 2).sum(1).mean()
            left, quantised = left - chosen, quantised + chosen
        rebuilt = ((model.decoder(quantised) - items) ** 2).sum(1).mean()
        for weight in (0.0, 0.25, 2.0):
            expected = rebuilt + (1 + weight) * to_codes
            torch.testing.assert_close(model.loss(items, weight), expected)


def test_the_commitment_weight_moves_the_encoder_alone(model, items):
    model.start_codes(items, 20, seed=0)
    with torch.no_grad():
        model.codebooks[0].add_(0.1)  # centroids of these items would have no gradient

    def gradients(weight):
        loss = model.loss(items, weight)
        parts = (model.encoder, model.codebooks, model.decoder)
        return [torch.autograd.grad(loss, [*one.parameters()], retain_graph=True) for one in parts]

    without, with_it = gradients(0.0), gradients(1.0)
    assert not torch.allclose(without[0][0], with_it[0][0])
    for before, after in zip(without[1] + without[2], with_it[1] + with_it[2], strict=True):
        torch.testing.assert_close(before, after)


def test_codes_start_in_use_and_dead_ones_are_revived(model, items):
    model.start_codes(items, 20, seed=0)
    generator = torch.Generator().manual_seed(0)
    assert model.revive(items, generator) <= 2  # k-means leaves none, rounding may move an item
    with torch.no_grad():
        for book in model.codebooks:
            book.fill_(1e3)
            book[0] = 0
    latents = model.encoder(items)
    assert all(len(level.unique()) == 1 for level in model.levels(latents).codes.unbind(1))
    assert model.revive(items, generator) == 14
    left = latents.detach()
    for book in model.codebooks:
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(book.detach()[1:], left, compute_mode=exact)
        assert apart.min(1).values.max() < 1e-5
        codes = torch.cdist(left, book.detach()).argmin(1)
        assert len(codes.unique()) > 3
        left = left - book.detach()[codes]


def test_a_training_says_how_many_it_revived_and_follows_its_seed(items):
    made, again = (quantise(items.numpy(), OPTIONS, seed=3) for _ in range(2))
    np.testing.assert_array_equal(made.codes, again.codes)
    assert made.codes.shape == (len(items), 2) and made.codes.min() >= 0 and made.codes.max() < 8
    assert made.note.endswith("dead codes revived while training")
    assert made.tensors["codebooks.0"].shape == (8, 3)
    with pytest.raises(InputError, match="the RQ-VAE has diverged in epoch 1; lower it"):
        quantise(items.numpy(), {**OPTIONS, "ids_learning_rate": 1e30}, seed=3)
    before = torch.get_rng_state()
    quantise(items.numpy(), {**OPTIONS, "ids_epochs": 1}, seed=4)
    assert torch.equal(before, torch.get_rng_state())


def test_the_encoder_learns_from_what_the_decoder_makes_of_the_codes():
    items = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    model = RQVAE(6, [8], 3, [4, 4], torch.Generator().manual_seed(0))
    model.start_codes(items, 20, seed=0)
    model.loss(items, 0.0).backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
