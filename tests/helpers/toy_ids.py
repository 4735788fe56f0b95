"""Semantic ids for the toy data, and small generative retrievers with large weights."""

from types import SimpleNamespace

import numpy as np
import torch
from golden_model import SIZES, Settings, dataset

from recbole_hstu.data.files.semantic_id_file import SemanticIds, write_semantic_ids

LEVELS = (4, 5, 3)


def drawn_codes(n_items, seed=0, levels=LEVELS):
    """(n, levels) different rows in random order: some prefixes have one child, some many."""
    everything = np.stack(np.meshgrid(*map(np.arange, levels), indexing="ij"), -1)
    everything = everything.reshape(-1, len(levels))
    return np.random.default_rng(seed).permutation(everything)[:n_items]


def write_toy_ids(path="dataset/toy/toy.rkmeans.ids.safetensors", n_items=30, seed=0):
    """Ids of the items i0, i1, ... of the toy data."""
    tokens = [f"i{i}" for i in range(n_items)]
    write_semantic_ids(path, tokens, drawn_codes(n_items, seed), LEVELS, {"method": "rkmeans"})
    return path


def codes_of(n_items, seed=0, levels=LEVELS):
    """`SemanticIds` of as many items, the padding first."""
    codes = torch.from_numpy(drawn_codes(n_items, seed, levels))
    return SemanticIds(torch.cat([codes.new_full((1, len(levels)), -1), codes]), levels)


def retriever(cls, n_items=60, **changes):
    """A model of 60 items in double precision, as `hstu_batches.make_batch` has them."""
    data = dataset()
    data = SimpleNamespace(
        num=lambda field: n_items + 1,
        field2id_token=data.field2id_token,
        iid_field=data.iid_field,
        semantic_ids=codes_of(n_items, levels=(5, 6, 4)),
    )
    sizes = {"inner_size": 24, "decoder_size": 12, "dropout_prob": 0.2, "decode": "exact"}
    sizes |= {"beam_size": 7, "topk": [5], **changes}
    torch.manual_seed(0)
    model = cls(Settings({**SIZES, **sizes}), data).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model
