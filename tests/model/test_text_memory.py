"""`text_memory: mapped`: the text stays in its file, and nothing else is another."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_model import Settings, dataset
from hstu_batches import make_batch, outcome, text_model
from served import ITEM_TEXT, toy_with_text, trained
from small_data import weights

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.config.checkpoint_settings import check_settings
from recbole_hstu.data.files.side_feature_file import read_text_features, write_text_features
from recbole_hstu.layers.items.mapped_text import MappedText
from recbole_hstu.model import hstutext
from recbole_hstu.model.parts.text_model import TextModel
from recbole_hstu.training import checkpoint

OPTIONS = {"item_text": ITEM_TEXT, "text_dimensions": 6, "text_storage_dtype": "float16"}
OPTIONS |= {"text_scale": 3.0, "loss_type": "shared"}


def test_a_training_is_the_same_and_either_way_goes_on_with_the_other():
    toy_with_text()
    own, mapped = (
        trained("HSTUText", **OPTIONS, text_memory=memory, checkpoint_dir=memory, epochs=1)
        for memory in ("own", "mapped")
    )
    assert [e.train_loss for e in mapped["record"].history] == [
        e.train_loss for e in own["record"].history
    ]
    assert np.array_equal(mapped["ranks"].ranks, own["ranks"].ranks)
    assert mapped["test_result"] == own["test_result"]
    before, after = weights(own["checkpoint"]), weights(mapped["checkpoint"])
    assert before.pop("items._extra_state") == after.pop("items._extra_state")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    served = [Recommender.load(result["checkpoint"]) for result in (own, mapped)]
    for rec in served:
        rec.add_items({"new": {"title": "quick red thing1"}})
    one, other = (rec.recommend([[("i1", 5), ("new", 7)]], k=20, at=9) for rec in served)
    assert other.equals(one)
    state = checkpoint.load_checkpoint(mapped["checkpoint"])
    plain = state["config"] | {"text_memory": "own"}
    check_settings(state, mapped["checkpoint"], SimpleNamespace(plain=lambda: plain))


@pytest.mark.parametrize("missing", [False, True])
def test_a_loss_and_its_gradients_are_the_same(text_file, missing):
    """The file's rows lie in another order than the ids; some items may have none."""
    options = {"text_missing": "error"}
    if missing:
        features = read_text_features(text_file)
        texts, some = dict.fromkeys(features.tokens[:50], ""), features.vectors[:50].copy()
        write_text_features(text_file, texts, some, {})
        options = {"text_missing": "zero"}
    own, mapped = (
        text_model(text_file, text_memory=memory, **options) for memory in ("own", "mapped")
    )
    assert isinstance(mapped.items.text, MappedText)
    assert mapped.items.text_hash == own.items.text_hash
    for one, other in zip(*(outcome(m, make_batch([3, 9])) for m in (own, mapped)), strict=True):
        assert torch.equal(one, other)


def test_a_file_that_is_replaced_stays_as_it_was_where_it_is_mapped(text_file):
    model = text_model(text_file, text_memory="mapped")
    before = model.items.text[:]
    features = read_text_features(text_file)
    changed = features.vectors + 1
    write_text_features(text_file, dict.fromkeys(features.tokens, ""), changed, {})
    assert torch.equal(model.items.text[:], before)
    assert not torch.equal(text_model(text_file, text_memory="mapped").items.text[:], before)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone tells")
def test_mapped_vectors_lie_in_the_file_and_those_of_a_table_do_not(text_file):
    config = Settings(text_features_file=text_file)
    mapped, _ = TextModel().mapped_text(config, dataset())
    table, _ = TextModel().text_vectors(config, dataset())
    assert file_at(mapped.vectors) == str(text_file)
    assert file_at(table) != str(text_file)


def file_at(tensor):
    """The file that is mapped where a tensor lies."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, *_, name = line.split()
        first, end = (int(address, 16) for address in place.split("-"))
        if first <= tensor.data_ptr() < end:
            return name
    return None


def test_elsewhere_than_on_the_cpu_the_vectors_move_as_ever(caplog):
    config = {"text_memory": "mapped", "device": torch.device("cpu")}
    assert hstutext.stays_mapped(config)
    assert not hstutext.stays_mapped(config | {"device": torch.device("cuda")})
    assert "text_memory: mapped is for the CPU; the vectors lie in cuda" in caplog.text


@pytest.mark.parametrize("model", ["LIS", "COBRALite", "HSTU"])
def test_other_models_refuse_it_in_one_line(toy, model, capsys):
    assert main(["run", f"--model={model}", "--dataset=toy", "--text_memory=mapped"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "text_memory" in error
