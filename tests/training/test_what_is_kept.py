"""What a training keeps in memory and in its checkpoints, and what an evaluation makes once."""

import gc
import io
import weakref

import numpy as np
import pytest
import torch
from small_data import random_rows, small_options

from recbole_hstu.layers.items.item_encoder import FusedEncoder, IdEncoder
from recbole_hstu.quick_start import run
from recbole_hstu.training import checkpoint, resumable
from recbole_hstu.training.preparation import configuration
from recbole_hstu.training.trainer import PlainTrainer


@pytest.mark.parametrize(("model", "encoder"), [("HSTU", IdEncoder), ("SASRecSS", IdEncoder)])
def test_item_tables_are_made_once_an_evaluation(toy, model, encoder, monkeypatch):
    made = []
    honest = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda self, *a: made.append(1) or honest(self, *a))
    evaluations = []
    evaluate = PlainTrainer.evaluate

    def counted(self, data, *args, **kwargs):
        made.clear()
        result = evaluate(self, data, *args, **kwargs)
        evaluations.append((len(data), len(made)))
        return result

    monkeypatch.setattr(PlainTrainer, "evaluate", counted)
    run(model, "toy", config_dict=small_options(model, epochs=1, eval_batch_size=8))
    assert [count for _, count in evaluations] == [1, 1]  # validation and test
    assert all(batches > 1 for batches, _ in evaluations)


def test_scores_outside_of_an_evaluation_follow_the_weights(toy):
    from hstu_batches import make_batch, make_model

    model, batch = make_model(), make_batch([3, 1, 12])
    with model.fixed_items():
        before = model.full_sort_predict(batch)
    with torch.no_grad():
        model.items.ids.mul_(-1)
    after = model.full_sort_predict(batch)
    assert not torch.allclose(before, after)
    with model.fixed_items():
        torch.testing.assert_close(model.full_sort_predict(batch), after)


def test_a_resumed_training_has_its_weights_once(toy, monkeypatch):
    first = run("HSTU", "toy", config_dict=small_options(epochs=1))
    last = first["checkpoint"].with_suffix(".last.pth")
    read, alive = [], []
    honest = checkpoint.load_checkpoint

    def watched(*args, **kwargs):
        state = honest(*args, **kwargs)
        read.extend(weakref.ref(value) for value in state["state_dict"].values())
        return state

    monkeypatch.setattr(checkpoint, "load_checkpoint", watched)
    monkeypatch.setattr(resumable.checkpoint, "load_checkpoint", watched)
    epoch = PlainTrainer._run_epoch

    def look(self, *args):
        gc.collect()
        alive.append(sum(value() is not None for value in read))
        return epoch(self, *args)

    monkeypatch.setattr(PlainTrainer, "_run_epoch", look)
    run("HSTU", "toy", config_dict=small_options(epochs=2, resume=str(last)))
    assert read and alive == [0]


def test_testing_maps_the_checkpoint_and_takes_the_weights_alone(toy, monkeypatch):
    mapped = []
    honest = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: mapped.append(k.get("mmap")) or honest(*a, **k)
    )
    result = run("HSTU", "toy", config_dict=small_options(epochs=1))
    assert mapped == [True]
    assert set(checkpoint.load_weights(result["checkpoint"])) == {"state_dict", "other_parameter"}


def test_without_checkpoints_the_best_epoch_is_tested_too(toy, monkeypatch):
    """Whatever a few epochs learn: validation calls the second of four the best."""
    judged, tested = iter([1.0, 2.0, 0.5, 0.0] * 2), []
    monkeypatch.setattr(PlainTrainer, "_valid_epoch", lambda *_, **__: (next(judged), {}))
    test = PlainTrainer.evaluate

    def watched(self, *args, **kwargs):
        result = test(self, *args, **kwargs)
        tested.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return result

    monkeypatch.setattr(PlainTrainer, "evaluate", watched)
    options = small_options(epochs=4)
    kept = run("HSTU", "toy", config_dict=options)
    free = run("HSTU", "toy", config_dict=options, saved=False)
    assert free["test_result"] == kept["test_result"]
    assert free["checkpoint"] is None
    best = checkpoint.load_checkpoint(kept["checkpoint"])
    assert best["epoch"] == 1
    last = checkpoint.load_checkpoint(kept["checkpoint"].with_suffix(".last.pth"))["state_dict"]
    for weights in tested:
        assert all(torch.equal(weights[name], value) for name, value in best["state_dict"].items())
        assert not all(torch.equal(weights[name], value) for name, value in last.items())
    assert len(tested) == 2


def test_a_resumed_run_without_checkpoints_tests_the_best_epoch(toy, monkeypatch):
    """Validation calls the first epoch the best, which lies in the file."""
    judged, loaded = iter([1.0, 0.5, 0.4]), []
    monkeypatch.setattr(PlainTrainer, "_valid_epoch", lambda *_, **__: (next(judged), {"m": 1.0}))
    kept = run("HSTU", "toy", config_dict=small_options(epochs=2))
    honest = PlainTrainer._load_best
    monkeypatch.setattr(
        PlainTrainer, "_load_best", lambda self, *a: loaded.append(1) or honest(self, *a)
    )
    last = kept["checkpoint"].with_suffix(".last.pth")
    again = run("HSTU", "toy", config_dict=small_options(epochs=3, resume=str(last)), saved=False)
    assert loaded == [1]
    assert again["test_result"] == kept["test_result"]


def test_a_training_loop_of_its_own_is_told_of(toy):
    record = run("NCL", "toy", config_dict=small_options("NCL", num_clusters=3))["record"]
    assert record.epochs == 2
    assert record.training_seconds > 0


def test_pretrained_states_are_those_of_their_runs(toy):
    options = small_options("RaCT", pretrain_epochs=1, save_step=1)
    files = {
        run("RaCT", "toy", config_dict={**options, "seed": seed})["checkpoint"] for seed in (1, 2)
    }
    assert len(files) == 2
    states = [checkpoint.load_checkpoint(file)["config"]["seed"] for file in sorted(files)]
    assert sorted(states) == [1, 2]
    assert run("RaCT", "toy", config_dict={**options, "save_step": 9})["checkpoint"].is_file()
    steps = {**options, "pretrain_epochs": 3, "save_step": 2}
    assert (
        checkpoint.load_checkpoint(run("RaCT", "toy", config_dict=steps)["checkpoint"])["epoch"]
        == 1
    )


def test_a_run_goes_on_by_the_address_of_its_class(toy):
    """As the processes of `--nproc` name it."""
    last = run("HSTU", "toy", config_dict=small_options(epochs=1))["checkpoint"]
    options = {"resume": str(last.with_suffix(".last.pth"))}
    config = configuration("recbole_hstu.model.hstu:HSTU", None, None, options)
    assert config["hidden_size"] == small_options()["hidden_size"]


def test_a_data_set_without_times_leaves_none_in_a_checkpoint(toy):
    options = {"load_col": {"inter": ["user_id", "item_id"]}, "eval_args": {"order": "RO"}}
    options["eval_args"] |= {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "full"}
    file = run("BPR", "toy", config_dict=small_options("BPR", epochs=1, **options))["checkpoint"]
    assert checkpoint.load_checkpoint(file)["times"] is None


def test_user_tokens_are_kept_where_a_model_knows_users(toy):
    """HSTU's table of distances has 41 rows here, as many as a table of the users would have."""
    sizes, times = {}, [time for _, _, time in random_rows()]
    for model in ("HSTU", "SASRec", "BPR", "FPMC"):
        options = small_options(model, epochs=1, MAX_ITEM_LIST_LENGTH=10)
        result = run(model, "toy", config_dict=options)
        state = checkpoint.load_checkpoint(result["checkpoint"])
        assert model != "HSTU" or 41 in state["state_dict"]["layers.0.bias.position"].shape
        sizes[model] = state["user_tokens"] and len(state["user_tokens"])
        assert state["tokens"]["users"][0] == 41
        assert len(state["item_tokens"]) == state["tokens"]["items"][0]
        assert state["times"] == [min(times), max(times)]
    assert sizes == {"HSTU": None, "SASRec": None, "BPR": 41, "FPMC": 41}


def test_text_tables_are_made_once_too(text_file, monkeypatch):
    from hstu_batches import make_batch, text_model

    model, made = text_model(text_file), []
    honest = FusedEncoder._fuse
    monkeypatch.setattr(FusedEncoder, "_fuse", lambda s, *a: made.append(1) or honest(s, *a))
    with torch.no_grad(), model.fixed_items():
        for seed in range(3):
            model.full_sort_predict(make_batch([4, 2], seed))
    assert len(made) == 1


def test_ctrl_c_at_any_write_of_a_checkpoint_is_an_interrupt(tmp_path, monkeypatch):
    """torch then fails to end its file, and that error must not hide the interrupt."""
    state = {"config": {}, "state_dict": {"weight": torch.zeros(100)}, "epoch": 1}
    file = tmp_path / "x.pth"
    checkpoint.save_checkpoint(file, state)
    before = file.read_bytes()
    left = [0]

    class Interrupted(io.BytesIO):
        def write(self, data):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return super().write(data)

    honest = torch.save
    monkeypatch.setattr(torch, "save", lambda state, _: honest(state, Interrupted()))
    for nth in range(1, 100):
        left[0] = nth
        try:
            checkpoint.save_checkpoint(file, state)
            break
        except KeyboardInterrupt:
            assert file.read_bytes() == before
    assert nth > 10  # and every earlier write was tried
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_what_lies_beside_the_weights_comes_to_the_device_of_the_model():
    kept = {"history": torch.ones(2), "w": np.ones(3), "of": {"user": torch.ones(1)}, "count": 4}
    found = checkpoint.decode(checkpoint.encode(kept), "meta")
    assert found["history"].is_meta
    assert found["of"]["user"].is_meta
    assert found["w"].tolist() == [1, 1, 1]
    assert found["count"] == 4
