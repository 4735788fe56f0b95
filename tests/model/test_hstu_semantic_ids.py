"""HSTU over semantic ids: the sum of code vectors, from training to export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from semantic_ids import write_ids
from served import trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.data.semantic_id_file import SemanticIds
from recbole_hstu.layers.item_encoder import CodeEncoder
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
    lists = rec.recommend([HISTORY], k=30, at=9, exclude_seen=False)
    module = Programs(rec).module
    fields = [rec.ids([item for item, _ in HISTORY]), [time for _, time in HISTORY]]
    tensors = [torch.from_numpy(np.array([field])) for field in (fields[0], fields[1])]
    users = module(tensors[0], torch.tensor([3]), tensors[1], torch.tensor([9]))
    scores = (users @ module.items.t())[0, 1:].sort(descending=True).values
    torch.testing.assert_close(
        scores.detach().numpy(), lists["score"].to_numpy(), rtol=0, atol=1e-5
    )


def test_weights_of_other_ids_are_refused(toy):
    write_ids()
    checkpoint = trained("HSTU", semantic_ids="rkmeans", id_table="joined", epochs=1)["checkpoint"]
    write_ids(seed=1)
    with pytest.raises(InputError, match="trained with other semantic ids"):
        evaluate(checkpoint)
    Recommender.load(checkpoint)


def test_ids_that_no_model_can_read(toy, capsys):
    line = ["run", "--dataset=toy", "--epochs=1", "--semantic_ids=rkmeans"]
    assert main([*line, "--model=HSTU"]) == 2
    assert "make it with recbole-hstu ids" in capsys.readouterr().err
    write_ids(n_items=20)
    assert main([*line, "--model=HSTU"]) == 2
    assert "10 of 30 items have no semantic id" in capsys.readouterr().err
    options = ["--item_text={fields: [title]}", "--model=HSTUText"]
    (toy / "toy" / "toy.item").write_text("item_id:token\ttitle:token_seq\ni1\tone two\n")
    assert main([*line, *options]) == 2
    assert "take HSTU, or fusion: id_only" in capsys.readouterr().err
