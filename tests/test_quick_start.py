"""Whole runs: every kind of model, checkpoints, resuming, budgets, protocols."""

import gc
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import small_options, weights

from recbole_hstu import quick_start
from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.exact_times import Pending
from recbole_hstu.evaluation.ranks import MISSED
from recbole_hstu.model.hstu import HSTU
from recbole_hstu.quick_start import run
from recbole_hstu.records.run_log import RunLog
from recbole_hstu.support.commands.interrupts import Interrupts, Terminated, sigterm_interrupts
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint
from recbole_hstu.training.preparation import build_model
from recbole_hstu.training.trainer import PlainTrainer, trainer_class
from recbole_hstu.training.views.train_view import in_train_view

SEQUENTIAL = ["HSTU", "SASRec", "GRU4Rec", "BERT4Rec", "NARM"]
GENERAL = ["BPR", "Pop", "ItemKNN", "MultiVAE"]


@pytest.mark.parametrize("model", SEQUENTIAL + GENERAL)
@pytest.mark.parametrize("mode", ["full", "uni20"])
def test_quick(toy, model, mode):
    options = small_options(model, eval_args={"mode": mode}, metrics=["Recall", "NDCG", "MRR"])
    result = run(model, "toy", config_dict=options)
    assert set(result["test_result"]) == {"recall@5", "ndcg@5", "mrr@5", "mrr"}
    assert all(0 <= value <= 1 for value in result["test_result"].values())
    saved = torch.load(result["checkpoint"], weights_only=True)
    assert saved["config"]["model"] == model
    assert saved["item_tokens"][0] == "[PAD]"
    assert len(saved["item_tokens"]) == 31


@pytest.mark.parametrize("model", ["GRU4RecF", "DIN", "CFKG", "LightGCN", "FM"])
def test_models_with_data_sets_or_features_of_their_own(model):
    """They need names that numpy and scipy dropped, and keep modules beside their weights."""
    options = {"epochs": 1, "show_progress": False, "limit_users": 25, "MAX_ITEM_LIST_LENGTH": 5}
    result = run(model, "ml-100k", config_dict=options)
    metric = "auc" if model == "FM" else "mrr"
    assert 0 < result["test_result"][metric] < 1
    assert checkpoint.load_checkpoint(result["checkpoint"])["epoch"] == 0


@pytest.mark.parametrize("mask_seen", [True, False])
def test_graph_models_heed_the_mask(mask_seen):
    options = {"limit_users": 25, "mask_seen": mask_seen, "mask_history": "all"}
    config = quick_start.Config("CFKG", "ml-100k", config_dict=options)
    data = load_dataset(config)
    assert data.item_num - 1 == len(set(data.inter_feat["item_id"]))  # unsold items are no rivals
    _, _, test = quick_start.make_loaders(config, data)
    for _, seen, _, target in test:
        assert (seen is not None) == mask_seen
        assert len(target) == 25


@pytest.mark.parametrize("model", ["HSTU", "SASRec", "BPR", "Pop"])
@pytest.mark.parametrize("mask_seen", [True, False])
def test_metrics_equal_an_independent_computation(toy, model, mask_seen):
    options = small_options(model, protocol="paper", mask_seen=mask_seen, topk=[1, 5])
    result = run(model, "toy", config_dict=options)["test_result"]
    reached = _rank_by_sorting(model, options, mask_seen)
    found = np.array(reached)
    for k in (1, 5):
        hit = found <= k
        assert result[f"hit@{k}"] == pytest.approx(hit.mean(), abs=1e-6)
        gain = np.where(hit, 1 / np.log2(found + 1), 0)
        assert result[f"ndcg@{k}"] == pytest.approx(gain.mean(), abs=1e-6)
        assert result[f"mrr@{k}"] == pytest.approx(np.where(hit, 1 / found, 0).mean(), abs=1e-6)
    assert result["mrr"] == pytest.approx((1 / found).mean(), abs=1e-6)


def _rank_by_sorting(model, options, mask_seen):
    """Train the same model again and rank every user's target with Python's sort."""
    config = quick_start.Config(model, "toy", config_dict=options)
    train, _, test = quick_start.make_loaders(config, load_dataset(config))
    network = build_model(config, train._dataset)
    train = in_train_view(config, train, network)
    trainer = trainer_class(config["MODEL_TYPE"], model)(config, network)
    trainer.fit(train, saved=False)
    network.eval()
    ranks = []
    for interaction, _, _, target in test:
        with torch.no_grad():
            scores = network.full_sort_predict(interaction).view(len(target), -1).tolist()
        for row, wanted in enumerate(target.tolist()):
            history = set(interaction["item_id_list"][row].tolist())
            barred = history if mask_seen else {0}
            order = sorted(set(range(1, 31)) - barred, key=lambda i: (-scores[row][i], i))
            ranks.append(order.index(wanted) + 1 if wanted in order else MISSED)
    return ranks


@pytest.mark.parametrize(
    ("model", "protocol", "more"),
    [
        *(("HSTU", "recbole", {}), ("HSTU", "paper", {}), ("SASRec", "recbole", {})),
        *(("SASRec", "paper", {}), ("BPR", "recbole", {}), ("BPR", "paper", {})),
        ("MultiVAE", "recbole", {"total_anneal_steps": 100}),
        ("LDiffRec", "recbole", {"anneal_steps": 4, "reweight": True}),
        *(("RecVAE", "recbole", {}), ("LINE", "recbole", {})),
    ],
)
def test_a_resumed_run_ends_with_the_very_weights(toy, model, protocol, more):
    options = small_options(model, epochs=5, protocol=protocol, **more)
    whole = run(model, "toy", config_dict=options)
    torch.rand(7)  # whatever happens between the two
    options["checkpoint_dir"] = "interrupted"
    first = run(model, "toy", config_dict={**options, "train_seconds": 1e-9})
    assert first["record"].epochs == 1
    last = first["checkpoint"].with_suffix(".last.pth")
    options |= {"resume": str(last), "train_seconds": None}
    resumed = run(model, "toy", config_dict=options)
    assert resumed["test_result"] == whole["test_result"]
    assert resumed["best_valid_result"] == whole["best_valid_result"]
    assert [e.train_loss for e in resumed["record"].history] == [
        e.train_loss for e in whole["record"].history
    ]
    expected = weights(whole["checkpoint"].with_suffix(".last.pth"))
    for name, value in weights(resumed["checkpoint"].with_suffix(".last.pth")).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("model", ["HSTU", "SASRec"])
def test_resume_alone_has_every_option_from_the_file(toy, model):
    options = small_options(model, epochs=3, seed=7, mask_seen=True)
    whole = run(model, "toy", config_dict=options)
    cut = run(model, "toy", config_dict={**options, "train_seconds": 1e-9})
    last = cut["checkpoint"].with_suffix(".last.pth")
    again = run(config_dict={"resume": str(last), "train_seconds": 99})
    assert again["test_result"] == whole["test_result"]
    assert again["record"].seed == 7
    assert again["record"].epochs == 3


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_gives_its_model_back(toy, saved):
    """That of the best epoch, ready to score the users that it was tested on."""
    options = small_options(epochs=4, learning_rate=0.05)
    result = run("HSTU", "toy", config_dict=options, saved=saved, with_model=True)
    trained = result["trained"]
    assert not trained.model.training
    assert trained.dataset.item_num == 31
    rows, _, _, targets = next(iter(trained.test_data))
    with torch.no_grad():
        scores = trained.model.full_sort_predict(rows)
    better = scores[:, 1:] > scores.gather(1, targets[:, None])
    assert (better.sum(1) < 5).double().mean() == pytest.approx(result["test_result"]["hit@5"])
    assert "trained" not in run("Pop", "toy", config_dict=small_options("Pop"))


def test_early_stopping_survives_a_cut_inside_its_patience(toy):
    """The state of early stopping comes back, too: losing it would train on."""
    options = small_options("SASRec", epochs=40, stopping_step=3, learning_rate=0.05)
    whole = run("SASRec", "toy", config_dict=options)["record"]
    assert whole.converged
    assert whole.epochs < 40
    options["checkpoint_dir"] = "interrupted"
    cut = run("SASRec", "toy", config_dict={**options, "epochs": whole.epochs - 1})
    assert not cut["record"].converged  # three epochs without a better one are within its patience
    last = cut["checkpoint"].with_suffix(".last.pth")
    resumed = run("SASRec", "toy", config_dict={**options, "resume": str(last)})["record"]
    assert resumed.epochs == whole.epochs
    assert resumed.metrics == whole.metrics


def test_mrr_is_given_for_everybody_or_not_at_all(toy):
    """Ratio splits leave some users several targets; their ranks are not kept."""
    split = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO"}
    options = small_options("BPR", eval_args=split)
    result = run("BPR", "toy", config_dict=options)
    assert "mrr" not in result["test_result"]
    assert "hit@5" in result["test_result"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_a_checkpoint_and_says_how_to_resume(toy, number, status):
    command = [sys.executable, "-m", "recbole_hstu.cli", "run", "--model=HSTU", "--dataset=toy"]
    options = small_options(epochs=100000, topk="[5]", protocol="paper")  # nothing stops early
    command += [f"--{key}={value}" for key, value in options.items()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not list(Path("saved").glob("*.last.pth")) and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    (file,) = Path("saved").glob("*.last.pth")
    assert f"; go on with python -m recbole_hstu.cli run --resume={file}" in err
    assert "Traceback" not in err + out
    assert checkpoint.load_checkpoint(file)["epoch"] >= 0


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_again(number, error):
    class Cleanup:
        def __del__(self):
            signal.raise_signal(number)  # "Exception ignored in ..."

    before = signal.getsignal(number)
    with pytest.raises(error) as raised, sigterm_interrupts(), Interrupts() as interrupts:
        interrupts.check()
        Cleanup()
        gc.collect()
        interrupts.check()
    assert raised.type is error
    assert signal.getsignal(number) is before


def test_train_seconds_stops_after_the_epoch_that_passes_it(toy):
    for seconds, epochs in ((1e-9, 1), (1e9, 3)):
        result = run("HSTU", "toy", config_dict=small_options(epochs=3, train_seconds=seconds))
        assert result["record"].epochs == epochs


def test_the_paper_protocol_reports_the_last_epoch(toy):
    result = run("HSTU", "toy", config_dict=small_options(protocol="paper", epochs=3))
    assert result["best_valid_result"] is None
    saved = checkpoint.load_checkpoint(result["checkpoint"])
    assert saved["epoch"] == 2
    assert "eval_args" in saved["config"]


def test_the_result_lies_beside_the_log(toy):
    result = run("HSTU", "toy", config_dict=small_options())
    (file,) = Path("log/HSTU").glob("*.run.json")
    assert file.stem.removesuffix(".run") == result["log"].stem
    content = json.loads(file.read_text())
    assert content["metrics"] == result["test_result"]
    assert content["config"]["learning_rate"] == 1e-3
    assert len(content["history"]) == 2
    log = result["log"].read_text()
    assert "test result" in log
    assert "\x1b" not in log


def test_a_full_disk_keeps_the_previous_checkpoint(toy, tmp_path, monkeypatch):
    file = tmp_path / "x.pth"
    checkpoint.save_checkpoint(file, {"config": {}, "state_dict": {}, "epoch": 1})
    before = file.read_bytes()

    def full(state, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"No space left on device.*previous checkpoint is kept"):
        checkpoint.save_checkpoint(file, {})
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["x.pth"]


def test_a_nan_loss_stops_the_run_and_says_where(toy, monkeypatch):
    """The step, the rate, the users by name; the state of the epoch before stays."""
    steps, seen = [], []
    honest = HSTU.calculate_loss

    def spoilt(self, interaction):
        steps.append(len(interaction))
        seen.append(interaction["user_id"].tolist())
        loss = honest(self, interaction)
        return loss * float("nan") if len(steps) == 5 else loss

    monkeypatch.setattr(HSTU, "calculate_loss", spoilt)
    options = small_options(train_batch_size=16, protocol="paper")  # 40 users: three steps
    with pytest.raises(InputError) as caught:
        run("HSTU", "toy", config_dict=options)
    (last,) = Path("saved").glob("*.last.pth")
    tokens = load_dataset(Config("HSTU", "toy", None, options)).field2id_token["user_id"]
    users = ", ".join(tokens[id] for id in seen[4][:10])
    assert str(caught.value) == (
        f"the training loss is NaN in epoch 2, step 2 in a batch of the users {users} and 6 more, "
        f"at learning_rate 0.001; lower the rate, or set clip_grad_norm; {last} holds the last "
        "good state"
    )
    assert checkpoint.load_checkpoint(last)["epoch"] == 0
    resumed = run("HSTU", "toy", config_dict={**options, "resume": str(last)})
    assert resumed["record"].epochs == 2


@pytest.mark.parametrize("epochs", [1, 3])
def test_weights_that_the_last_step_spoilt_get_into_no_checkpoint(toy, monkeypatch, epochs):
    finish = PlainTrainer._train_epoch

    def spoil(self, data, epoch, *args, **kwargs):
        loss = finish(self, data, epoch, *args, **kwargs)
        if epoch == epochs - 1:
            next(self.model.parameters()).data[1, 1] = float("nan")
        return loss

    monkeypatch.setattr(PlainTrainer, "_train_epoch", spoil)
    options = small_options(epochs=epochs, protocol="paper")
    with pytest.raises(InputError, match=f"weights are NaN after epoch {epochs}, at learning"):
        run("HSTU", "toy", config_dict=options)
    found = list(Path("saved").glob("*.pth"))
    assert len(found) == (epochs > 1)
    for file in found:
        assert all(torch.isfinite(v).all() for v in weights(file).values())


def test_other_metrics_of_recbole(toy):
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Hit"]
    options = small_options(metrics=metrics, valid_metric="Hit@5")
    result = run("HSTU", "toy", config_dict=options)["test_result"]
    assert 0 < result["itemcoverage@5"] <= 1
    assert result["averagepopularity@5"] > 0


def test_a_known_data_set_is_converted_on_demand():
    """The publisher's files lie where a download leaves them."""
    here, cache = Path(__file__).parent / "converters" / "data", Path("dataset/raw/amazon2023")
    cache.mkdir(parents=True)
    shutil.copy(here / "Electronics_few.csv", cache / "All_Beauty.csv")
    shutil.copy(here / "meta_Electronics_few.jsonl.gz", cache / "meta_All_Beauty.jsonl.gz")
    options = small_options(topk=[1], valid_metric="NDCG@1", text_dimensions=4)
    result = run("HSTUText", "all_beauty", config_dict=options)
    assert 0 <= result["test_result"]["mrr"] <= 1
    assert Path("dataset/all_beauty/all_beauty.stats.json").is_file()
    assert list(Path("dataset/all_beauty").glob("*.safetensors"))


def test_a_job_that_is_started_again_has_the_settings_that_it_began_with(toy, monkeypatch):
    """torch's launcher names a job; the name alone does not say that it is the same one."""
    monkeypatch.setattr(quick_start.processes, "launch_id", lambda: "job")
    first = run("HSTU", "toy", config_dict=small_options())
    again = run("HSTU", "toy", config_dict=small_options())
    assert again["test_result"] == first["test_result"]
    with pytest.raises(InputError, match=r"--rdzv_id=job: .* new name .* of --seed=\d+, not of"):
        run("HSTU", "toy", config_dict=small_options(seed=7))


def test_a_run_makes_no_rows_that_nobody_asks_for(toy, monkeypatch):
    """Those of all prefixes, of which the head of the log wants no more than a number."""
    say, seen = RunLog.say_what_runs, []

    def watched(log, config, data, network):
        say(log, config, data, network)
        seen.append(isinstance(data._inter_feat, Pending))

    monkeypatch.setattr(RunLog, "say_what_runs", watched)
    run("HSTU", "toy", config_dict=small_options(epochs=1))
    assert seen == [True]


def test_without_validation_the_last_epoch_counts_after_a_resume_too(toy):
    options = small_options(eval_step=0)
    whole = run("HSTU", "toy", config_dict={**options, "epochs": 4, "checkpoint_dir": "whole"})
    first = run("HSTU", "toy", config_dict={**options, "epochs": 2})
    last = checkpoint.last_file(first["checkpoint"])
    again = run(config_dict={"resume": str(last), "epochs": 4})
    assert again["test_result"] == whole["test_result"]
    seconds, of_first = ([e.seconds for e in run["record"].history] for run in (again, first))
    assert seconds[:2] == of_first and seconds == sorted(seconds)
    assert again["record"].training_seconds == seconds[-1]
    for name, value in weights(whole["checkpoint"]).items():
        assert torch.equal(value, weights(again["checkpoint"])[name]), name


def test_every_second_epoch_is_validated(toy):
    history = run("HSTU", "toy", config_dict=small_options(epochs=4, eval_step=2))["record"].history
    assert [bool(epoch.valid) for epoch in history] == [False, True, False, True]


def test_of_some_metrics_less_is_better(toy):
    more = {"metrics": ["Hit", "AveragePopularity"], "valid_metric": "AveragePopularity@5"}
    found = run("HSTU", "toy", config_dict=small_options(epochs=4, learning_rate=0.05, **more))
    valid = [epoch.valid["averagepopularity@5"] for epoch in found["record"].history]
    assert found["best_valid_score"] == min(valid) < max(valid)


def test_the_seed_draws_the_first_weights_and_weight_decay_shrinks_them(toy):
    def positions(**options):
        given = small_options(epochs=1, eval_step=0, learning_rate=1e-6, **options)
        return weights(run("HSTU", "toy", config_dict=given)["checkpoint"])["positions"]

    first = positions(seed=1)
    assert torch.allclose(positions(seed=1), first)
    assert not torch.allclose(positions(seed=2), first, atol=1e-3)
    assert positions(seed=1, weight_decay=1e5).abs().sum() < 0.95 * first.abs().sum()


def test_more_patience_goes_on_with_a_training_that_ended_early(toy):
    options = small_options(epochs=30, stopping_step=1, learning_rate=0.1)
    whole = run("HSTU", "toy", config_dict={**options, "stopping_step": 4, "checkpoint_dir": "w"})
    first = run("HSTU", "toy", config_dict=options)
    last = checkpoint.last_file(first["checkpoint"])
    assert first["record"].converged
    scores = [epoch.valid["ndcg@5"] for epoch in first["record"].history]
    assert len(scores) == 1 + scores.index(max(scores)) + 2  # the second time in a row
    for patience in (1, 4):
        again = run(config_dict={"resume": str(last), "stopping_step": patience})
        assert again["record"].converged
        assert (again["record"].epochs > first["record"].epochs) == (patience == 4)
    assert again["record"].epochs == whole["record"].epochs
    assert again["test_result"] == whole["test_result"]


def test_clipping_limits_true_gradients_under_a_loss_scale(toy, monkeypatch):
    options = small_options("SASRec", learner="sgd", learning_rate=1.0, epochs=1)
    options["clip_grad_norm"] = {"max_norm": 0.1}
    plain = run("SASRec", "toy", config_dict=options)["checkpoint"]
    scaling = property(lambda _: True, lambda *_: None)  # RecBole scales on a GPU alone
    monkeypatch.setattr(PlainTrainer, "enable_scaler", scaling, raising=False)
    scaled = run("SASRec", "toy", config_dict=options)["checkpoint"]
    for name, value in weights(plain).items():
        torch.testing.assert_close(value, weights(scaled)[name], atol=1e-4, rtol=1e-4)


def test_the_caller_goes_on_with_his_own_random_numbers(toy):
    """A loop that draws options for `run` would else draw the same ones every time."""

    def drawn():
        return random.random(), np.random.uniform(), float(torch.rand(()))  # noqa: NPY002

    seen = [drawn()]
    file = run("HSTU", "toy", config_dict=small_options(epochs=1))["checkpoint"]
    seen.append(drawn())
    run("HSTU", "toy", config_dict=small_options(epochs=1))
    seen.append(drawn())
    for _ in range(2):
        quick_start.load(file)
        seen.append(drawn())
    for numbers in zip(*seen, strict=True):
        assert len(set(numbers)) == 5
