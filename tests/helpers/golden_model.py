"""The golden files and the model that they were recorded with."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from recbole_hstu.data.files.side_feature_file import write_text_features

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = {
    "hidden_size": 16,
    "n_layers": 2,
    "n_heads": 2,
    "qk_size": 8,
    "v_size": 8,
    "MAX_ITEM_LIST_LENGTH": 12,
    "extra_positions": 11,
    "input_dropout_prob": 0.2,
    "hidden_dropout_prob": 0.2,
    "loss_type": "sampled",
    "logq_correction": False,
    "activation_checkpointing": False,
    "torch_compile": False,
    "query_time": "target",
    "relative_bias": "both",
    "attention": "silu",
    "num_negatives": 32,
    "temperature": 0.05,
    "item_l2_norm": True,
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "device": torch.device("cpu"),
    "seed": 7,
}
N_ITEMS = 60


class Settings(dict):
    """A configuration that answers None for what it does not have, as RecBole's does."""

    def __missing__(self, key):
        return None


def golden(name):
    return np.load(GOLDEN / f"{name}.npz")


def dataset():
    """What a model asks of its data set: how many items there are, and their tokens."""
    tokens = np.array(["[PAD]", *(str(i) for i in range(1, N_ITEMS + 1))])
    return SimpleNamespace(
        num=lambda field: N_ITEMS + 1, field2id_token={"item_id": tokens}, iid_field="item_id"
    )


def parameter_names(n_layers=2):
    """The reference's parameter names and ours."""
    names = {
        "_embedding_module._item_emb.weight": "items.ids",
        "_input_features_preproc._pos_emb.weight": "positions",
    }
    for layer in range(n_layers):
        theirs, ours = f"_hstu._attention_layers.{layer}.", f"layers.{layer}."
        names |= {
            f"{theirs}_uvqk": f"{ours}uvqk",
            f"{theirs}_o.weight": f"{ours}output.weight",
            f"{theirs}_o.bias": f"{ours}output.bias",
            f"{theirs}_rel_attn_bias._ts_w": f"{ours}bias.time",
            f"{theirs}_rel_attn_bias._pos_w": f"{ours}bias.position",
        }
    return names


TEXT_NAMES = {
    "_embedding_module._text_projection.weight": "items.projection.weight",
    "_embedding_module._text_projection.bias": "items.projection.bias",
}


TEXT_SETTINGS = {"fusion": "sum", "negative_projection": "shared", "text_missing": "error"}


def write_text_file(folder, vectors):
    """The recorded text vectors as a side-feature file, its rows in another order than the ids."""
    path = folder / "golden.safetensors"
    order = np.random.default_rng(0).permutation(N_ITEMS) + 1
    write_text_features(path, {str(i): f"item {i}" for i in order}, vectors[order], {})
    return path


def load_weights(model, arrays, names, prefix="w/"):
    with torch.no_grad():
        for theirs, ours in names.items():
            model.get_parameter(ours).copy_(torch.from_numpy(arrays[prefix + theirs]))


def batch(arrays, unit, phase, dtype=torch.int64):
    """A golden batch under RecBole's field names."""
    row = f"{unit}/{phase}/row/"
    names = {
        "item_id_list": "historical_ids",
        "timestamp_list": "historical_timestamps",
        "item_length": "history_lengths",
        "item_id": "target_ids",
        "timestamp": "target_timestamps",
    }
    return {ours: torch.from_numpy(arrays[row + theirs]) for ours, theirs in names.items()}


def packed_negatives(model, interaction, negatives):
    """The recorded negatives, row after row, in the order in which the model packs its rows."""
    lengths = interaction["item_length"]
    rows = torch.from_numpy(negatives).split(lengths.tolist())
    return torch.cat([rows[i] for i in torch.argsort(lengths, stable=True)])


def check_company_and_padding(model, batch):
    """A user's scores are the same alone or in any batch, at any padded length."""
    together = model.full_sort_predict(batch)
    wider = {k: torch.nn.functional.pad(v, (0, 3)) if v.dim() == 2 else v for k, v in batch.items()}
    torch.testing.assert_close(model.full_sort_predict(wider), together, rtol=0, atol=1e-12)
    for row in range(len(together)):
        alone = model.full_sort_predict({k: v[row : row + 1] for k, v in batch.items()})
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-12)
