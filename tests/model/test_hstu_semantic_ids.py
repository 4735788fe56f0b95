"""HSTU over semantic ids: the sum of code vectors, from training to export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from semantic_ids import write_ids
from served import ITEM_TEXT, trained, write_items

from recbole_hstu import Recommender
from recbole_hstu.data.files.semantic_id_file import SemanticIds
from recbole_hstu.layers.items.item_encoder import CodeEncoder
from recbole_hstu.quick_start import evaluate, load
from recbole_hstu.serving.export.programs import Programs
from recbole_hstu.support.errors import InputError

HISTORY = [("i1", 5), ("i2", 7), ("i9", 8)]


@pytest.mark.parametrize("with_ids", [False, True])
def test_an_item_is_the_sum_of_its_codes(with_ids):
    ids = SemanticIds(torch.tensor([[-1, -1], [2, 0], [0, 1], [2, 1]]), (3, 2))
    encoder = CodeEncoder(ids, hidden_size=4, with_ids=with_ids)
    inputs, candidates = encoder()
    assert inputs is candidates
    first, second = encoder.levels
    expected = torch.stack([first[2] + second[0], first[0] + second[1], first[2] + second[1]])
    if with_ids:
        expected = expected + encoder.ids[1:]
    torch.testing.assert_close(inputs[1:], expected)
    torch.testing.assert_close(encoder(torch.tensor([3, 1]))[0], inputs[[3, 1]])
    learned = sum(parameter.numel() for parameter in encoder.parameters())
    assert learned == (3 + 2) * 4 + (4 * 4 if with_ids else 0)


def test_a_checkpoint_serves_and_exports_without_the_file(toy):
    file = write_ids()
    result = trained("HSTU-SID", epochs=1)
    again = evaluate(result["checkpoint"])["test_result"]
    assert again == result["test_result"]
    model = load(result["checkpoint"]).model
    file.unlink()
    rec = Recommender.load(result["checkpoint"])
    assert torch.equal(rec.scorer.vectors(), model.normalised(model.items()[0]))
    assert len(rec.recommend([HISTORY], k=30, at=9, exclude_seen=False)) == 30
    Programs(rec)  # which compares what it exports with the model


def test_weights_of_other_ids_are_refused(toy):
    write_ids()
    checkpoint = trained("HSTU", semantic_ids="rkmeans", id_table="joined", epochs=1)["checkpoint"]
    write_ids(seed=1)
    with pytest.raises(InputError, match="trained with other semantic ids"):
        evaluate(checkpoint)
    Recommender.load(checkpoint)


def test_ids_that_no_model_can_read(toy):
    with pytest.raises(InputError, match="make it with recbole-hstu ids"):
        trained("HSTU", semantic_ids="rqvae")
    with pytest.raises(InputError, match="id_table: joined needs semantic_ids"):
        trained("HSTU", id_table="joined")
    write_ids(n_items=20)
    with pytest.raises(InputError, match="10 of 30 items have no semantic id"):
        trained("HSTU", semantic_ids="rkmeans")
    write_items()
    with pytest.raises(InputError, match="take HSTU, or fusion: id_only"):
        trained("HSTUText", semantic_ids="rkmeans", item_text=ITEM_TEXT)
    assert not list(Path().rglob("*.pth"))
