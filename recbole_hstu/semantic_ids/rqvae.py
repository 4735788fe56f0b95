"""RQ-VAE (Zeghidour et al., https://arxiv.org/abs/2107.03312; for items: TIGER, Rajput et al.,
https://arxiv.org/abs/2305.05065): an autoencoder whose bottleneck is quantised level by level.

The loss of a vector x with latent z, residuals r_1 = z, r_2, ... and codes e is

    |x - decoder(sum of e)|^2 + sum over levels of |sg(r) - e|^2 + commitment_weight |r - sg(e)|^2

where sg stops the gradient. Two things keep the codes in use: they start from k-means over the
latents, and after every epoch but the last a code that no item has moves to the residual of a
random item.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.semantic_ids.quantised import Quantised
from recbole_hstu.semantic_ids.residual_kmeans import centroids, unit_length
from recbole_hstu.support.errors import InputError


class Levels(NamedTuple):
    """A batch of latents, level by level.

    Attributes:
        codes: (B, levels).
        residuals: what each level was given, (B, latent) each.
        chosen: its codes' vectors, likewise.
    """

    codes: torch.Tensor
    residuals: list[torch.Tensor]
    chosen: list[torch.Tensor]


class RQVAE(nn.Module):
    """Args:
    width: of the vectors.
    hidden_sizes: of the encoder's hidden layers.
    latent_size: of the bottleneck.
    level_sizes: codes of each level.
    generator: of the first weights.
    """

    def __init__(
        self,
        width: int,
        hidden_sizes: Sequence[int],
        latent_size: int,
        level_sizes: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        widths = [width, *hidden_sizes, latent_size]
        self.encoder = _perceptron(widths, generator)
        self.decoder = _perceptron(widths[::-1], generator)
        self.codebooks = nn.ParameterList(torch.zeros(size, latent_size) for size in level_sizes)

    def levels(self, latents: torch.Tensor) -> Levels:
        """Quantise latents (B, latent); no gradient goes from one level to the codes before it."""
        codes, residuals, chosen = [], [], []
        left = latents
        for book in self.codebooks:
            codes.append(_nearest(left.detach(), book.detach()))
            residuals.append(left)
            chosen.append(F.embedding(codes[-1], book))
            left = left - chosen[-1].detach()
        return Levels(torch.stack(codes, dim=1), residuals, chosen)

    def loss(self, vectors: torch.Tensor, commitment_weight: float) -> torch.Tensor:
        """Mean over a batch (B, width)."""
        latents = self.encoder(vectors)
        found = self.levels(latents)
        quantised = torch.stack(found.chosen).sum(0)
        # The decoder reads codes; its gradient goes straight to the latents.
        straight = latents + (quantised - latents).detach()
        loss = _distance(self.decoder(straight), vectors)
        for residual, chosen in zip(found.residuals, found.chosen, strict=True):
            loss = loss + _distance(chosen, residual.detach())
            loss = loss + commitment_weight * _distance(residual, chosen.detach())
        return loss

    @torch.no_grad()
    def start_codes(self, vectors: torch.Tensor, max_iterations: int, seed: int) -> None:
        """Every level's codes from k-means over its residuals; where there are fewer distinct ones
        than codes, the rest lies at zero until it is revived."""
        left = self.encoder(vectors)
        for book in self.codebooks:
            found = centroids(left.numpy(), len(book), max_iterations, seed)
            book[: len(found)] = torch.from_numpy(found)
            left = left - book[_nearest(left, book)]

    @torch.no_grad()
    def revive(self, vectors: torch.Tensor, generator: torch.Generator) -> int:
        """Move every code that none of the vectors has to the residual of a random one; returns
        how many there were."""
        revived = 0
        left = self.encoder(vectors)
        for book in self.codebooks:
            uses = torch.bincount(_nearest(left, book), minlength=len(book))
            dead = (uses == 0).nonzero().squeeze(1)
            book[dead] = left[torch.randint(len(left), (len(dead),), generator=generator)]
            left = left - book[_nearest(left, book)]
            revived += len(dead)
        return revived


def quantise(vectors: np.ndarray, options: Mapping[str, Any], seed: int) -> Quantised:
    """Codes of vectors (n, dim) by the options of `properties/ids/rqvae.yaml`."""
    items = torch.from_numpy(unit_length(vectors))
    generator = torch.Generator().manual_seed(seed)
    model = _model(items.shape[1], options, generator)
    model.start_codes(items, options["max_iterations"], seed)
    revived = _train(model, items, options, generator)
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    note = f"{revived:,} dead codes revived while training"
    return Quantised(codes_by(tensors, vectors, options), tensors, note)


@torch.no_grad()
def codes_by(
    tensors: Mapping[str, np.ndarray], vectors: np.ndarray, options: Mapping[str, Any]
) -> np.ndarray:
    """(n, levels) codes of vectors (n, dim), which may be others than those of `quantise`."""
    items = torch.from_numpy(unit_length(vectors))
    model = _model(items.shape[1], options, torch.Generator())
    model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return model.levels(model.encoder(items)).codes.numpy()


def _model(width: int, options: Mapping[str, Any], generator: torch.Generator) -> RQVAE:
    sizes = (options["hidden_sizes"], options["latent_size"], options["level_sizes"])
    return RQVAE(width, *sizes, generator)


def _train(
    model: RQVAE, items: torch.Tensor, options: Mapping[str, Any], generator: torch.Generator
) -> int:
    """Returns how many dead codes were revived; those of the last epoch stay as they are.

    Raises:
        InputError: the weights are no longer finite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=options["ids_learning_rate"])
    revived = 0
    for epoch in range(options["ids_epochs"]):
        revived += model.revive(items, generator) if epoch else 0
        order = torch.randperm(len(items), generator=generator)
        for batch in order.split(options["ids_batch_size"]):
            optimizer.zero_grad(set_to_none=True)
            model.loss(items[batch], options["commitment_weight"]).backward()
            optimizer.step()
        if not all(weights.isfinite().all() for weights in model.parameters()):
            rate = options["ids_learning_rate"]
            raise InputError(
                f"ids_learning_rate: {rate}: the RQ-VAE has diverged in epoch {epoch + 1}; lower it"
            )
    return revived


def _perceptron(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them, by He's uniform weights."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, before, after)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _nearest(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return torch.cdist(points, centres).argmin(1)


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean over a batch of the squared distance."""
    return (a - b).square().sum(1).mean()
