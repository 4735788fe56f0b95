"""`recbole-hstu export`: what other runtimes compute is what the model computes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from served import ITEM_TEXT, toy_with_text, trained

from recbole_hstu import Recommender
from recbole_hstu.cli import main
from recbole_hstu.records.run_record import read_record, write_record
from recbole_hstu.serving.export import bundle
from recbole_hstu.support.errors import InputError
from recbole_hstu.training import checkpoint

TEXT = {"item_text": ITEM_TEXT, "text_dimensions": 6}
MODELS = {
    "HSTU": {},
    "HSTUText": {**TEXT, "query_time": "last"},
    "SASRecSS": {},
    "eSASRec": {},
    "gSASRec": {},
    "SASRec": {},
    "GRU4Rec": {},
    "BPR": {},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `run` gave for one small model each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("models"))
        toy_with_text()
        found = {name: trained(name, **given, epochs=1) for name, given in MODELS.items()}
        for name, result in found.items():
            result["checkpoint"] = result["checkpoint"].resolve()
            result["record"] = next(Path("log").rglob(f"{name}-toy-*.run.json")).resolve()
        found["text"] = next(Path("dataset/toy").glob("*.safetensors")).resolve()
        return found


def export(results, model, *options, out="bundle"):
    given = [f"--text_features_file={results['text']}"] if model == "HSTUText" else []
    checkpoint = str(results[model]["checkpoint"])
    return main(["export", checkpoint, f"--out={out}", *given, *options])


def history(draw, n_events):
    items = [f"i{item}" for item in draw.integers(0, 30, n_events)]
    return list(zip(items, np.sort(draw.integers(10**12, 2 * 10**12, n_events)), strict=True))


def padded(histories, at, width):
    """A batch as a user of the bundle makes it."""
    tokens = json.loads(Path("bundle/item_tokens.json").read_text("utf-8"))
    shape = (len(histories), width)
    fields = {"item_id_list": np.zeros(shape, int), "timestamp_list": np.zeros(shape, int)}
    for row, events in enumerate(histories):
        fields["item_id_list"][row, : len(events)] = [tokens.index(item) for item, _ in events]
        fields["timestamp_list"][row, : len(events)] = [time for _, time in events]
    fields["item_length"] = np.array([len(events) for events in histories])
    return {**fields, "timestamp": np.array(at)}


def run_onnx(fields):
    session = onnxruntime.InferenceSession("bundle/model.onnx")
    wanted = {given.name for given in session.get_inputs()}
    return session.run(None, {name: fields[name] for name in wanted})[0]


@pytest.mark.parametrize("model", [name for name in MODELS if name != "BPR"])
def test_onnx_gives_the_models_scores_at_any_batch_and_length(results, model, in_empty_folder):
    assert export(results, model, "--formats=onnx,parquet") == 0
    text = results["text"] if model == "HSTUText" else None
    rec = Recommender.load(results[model]["checkpoint"], text_features_file=text)
    items = pd.read_parquet("bundle/items.parquet")
    assert items["item"].tolist() == rec.items[1:].tolist()
    draw = np.random.default_rng(0)
    for rows, longest in ((1, 1), (1, 8), (9, 3), (4, 8)):
        lengths = [longest, *draw.integers(1, longest + 1, rows - 1)]
        histories = [history(draw, length) for length in lengths]
        at = [events[-1][1] + 50 for events in histories]
        users = run_onnx(padded(histories, at, longest))
        scores = users @ np.stack(items["vector"]).T
        for row, events in enumerate(histories):
            expected = rec.scores(events, items["item"].tolist(), at[row])
            assert scores[row] == pytest.approx(expected, abs=1e-5)


def test_the_whole_bundle(results, in_empty_folder, capsys):
    record = results["HSTU"]["record"]
    assert export(results, "HSTU", f"--record={record}", "--licence=CC0", out="a/bundle") == 0
    assert "onnx, torch, parquet, faiss of 30 items" in capsys.readouterr().out
    Path("a/bundle").rename("bundle")
    assert not list(Path("a").iterdir())
    rec = Recommender.load(results["HSTU"]["checkpoint"])
    events = [("i3", 10**12), ("i7", 10**12 + 5)]
    fields = padded([events], [10**12 + 7], 2)
    program = torch.export.load("bundle/model.pt2").module()
    order = ("item_id_list", "item_length", "timestamp_list", "timestamp")
    users = program(*(torch.from_numpy(fields[name]) for name in order)).numpy()
    assert users == pytest.approx(run_onnx(fields), abs=1e-5)
    scores, ids = faiss.read_index("bundle/items.faiss").search(users, 5)
    lists = rec.recommend([events], k=5, at=10**12 + 7, exclude_seen=False)
    assert rec.items[ids[0]].tolist() == lists["item"].tolist()
    assert scores[0] == pytest.approx(lists["score"].to_numpy(), abs=1e-5)
    card = Path("bundle/README.md").read_text("utf-8")
    hit = results["HSTU"]["test_result"]["hit@5"]
    for words in (
        "HSTU trained on toy",
        "30 items, 40 users",
        "recbole",
        f"hit@5 {hit:.4f}",
        "CC0",
    ):
        assert words in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("bundle")
        exec(code, {})
    assert len(json.loads(capsys.readouterr().out.replace("'", '"'))) == 10
    config = json.loads(Path("bundle/config.json").read_text("utf-8"))
    assert config["hidden_size"] == 16
    assert str(Path.home()) not in json.dumps(config)


def test_recurrent_layers_take_rows_of_one_length(results, in_empty_folder, capsys):
    """`torch.export` unrolls them; the card says so."""
    assert export(results, "GRU4Rec", "--formats=torch") == 0
    assert "rows padded to 8" in Path("bundle/README.md").read_text("utf-8")
    rec = Recommender.load(results["GRU4Rec"]["checkpoint"])
    fields = padded([[("i3", 5), ("i7", 9)]], [9], 8)
    program = torch.export.load("bundle/model.pt2").module()
    names = ("item_id_list", "item_length")
    (user,) = program(*(torch.from_numpy(fields[name]) for name in names))
    expected = rec.scores(["i3", "i7"], ["i1", "i2"])
    vectors = rec.scorer.vectors()[rec.ids(["i1", "i2"])]
    assert (vectors @ user).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_histories_of_one_event(name, in_empty_folder):
    toy_with_text()
    file = trained("HSTU", MAX_ITEM_LIST_LENGTH=1, epochs=1)["checkpoint"]
    assert main(["export", str(file), "--out=bundle", f"--formats={name}"]) == 0


def test_added_items_are_exported(results, in_empty_folder, capsys):
    Path("new.jsonl").write_text('{"item": "new", "title": "red thing1"}\n')
    assert export(results, "HSTUText", "--new_items=new.jsonl", "--formats=parquet,faiss") == 0
    items = pd.read_parquet("bundle/items.parquet")
    assert items["item"].tolist()[-1] == "new"
    assert items["id"].tolist() == list(range(1, 32))
    assert faiss.read_index("bundle/items.faiss").ntotal == 31
    assert "| items added after the training | 1 |" in Path("bundle/README.md").read_text()


def test_a_record_of_seed_0_is_that_of_its_checkpoint(results, in_empty_folder):
    record = replace(read_record(results["HSTU"]["record"]), seed=0)
    rec = Recommender.load(results["HSTU"]["checkpoint"])
    rec.saved.config["seed"] = 0
    assert bundle._record(str(write_record(".", record)), rec).seed == 0


@pytest.mark.parametrize(
    ("options", "valid", "words"),
    [
        (
            {"limit_users": 9},
            {},
            "of a run with limit_users 9, and the checkpoint of one with None",
        ),
        (
            {"epochs": 40},
            {"ndcg@5": 2.0},
            "of a run with epochs 40, and the checkpoint of one with 1",
        ),
        ({}, {"ndcg@5": 2.0}, "of a run with ndcg@5 2 on validation, and the checkpoint has"),
        ({"epochs": 40}, {}, None),  # resumed, and no better than before
    ],
)
def test_a_record_of_another_run_of_the_model(results, options, valid, words, in_empty_folder):
    own = read_record(results["HSTU"]["record"])
    other = replace(
        own, config={**own.config, **options}, valid_metrics={**own.valid_metrics, **valid}
    )
    path, rec = str(write_record(".", other)), Recommender.load(results["HSTU"]["checkpoint"])
    if words is None:
        assert bundle._record(path, rec) == other
        return
    with pytest.raises(InputError, match=re.escape(words)):
        bundle._record(path, rec)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("BPR", [], "BPR cannot be exported: it does not multiply a vector"),
        ("HSTU", ["no --out"], "--out is missing"),
        ("HSTU", ["--formats=None"], "--formats: has no value; give it one, or leave it out"),
        ("HSTU", ["--formats=onyx"], "'onyx' is not one of onnx, torch, parquet, faiss"),
        ("HSTU", ["--stand_in=zero"], "--stand_in: is for new items; name their file with"),
        ("HSTU", ["--record"], "--record names nothing"),
        ("HSTU", ["--format=onnx"], "unknown option 'format'; did you mean 'formats'"),
        (
            "HSTU",
            ["--record=absent.run.json"],
            "absent.run.json: is no .run.json of this release",
        ),
        ("HSTU", ["--record=other"], "is of model SASRec, and the checkpoint of HSTU"),
    ],
)
def test_bad_input_leaves_no_folder(results, model, options, words, in_empty_folder, capsys):
    other = f"--record={results['SASRec']['record']}"
    options = [other if option == "--record=other" else option for option in options]
    options = [] if options == ["no --out"] else ["--out=bundle", *options]
    assert main(["export", str(results[model]["checkpoint"]), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not list(Path().iterdir())


def test_checkpoints_that_are_none(results, in_empty_folder, capsys):
    file = results["HSTU"]["checkpoint"]
    Path("cut.pth").write_bytes(file.read_bytes()[:3000])
    state = checkpoint.load_checkpoint(file)
    torch.save({k: v for k, v in state.items() if k != "item_tokens"}, "other.pth")
    torch.save({**state, "config": {**state["config"], "model_class": "no.such:Model"}}, "no.pth")
    for name, words in (("cut", "damaged"), ("other", "another release"), ("no", "no module no")):
        assert main(["export", f"{name}.pth", "--out=bundle"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error
    assert not Path("bundle").exists()


def test_what_is_there_stays_and_what_fails_leaves_nothing(
    results, in_empty_folder, capsys, monkeypatch
):
    Path("bundle").mkdir()
    assert export(results, "HSTU", "--formats=parquet") == 2
    assert "--out=bundle: is there" in capsys.readouterr().err
    assert not list(Path("bundle").iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_write_json", full)
    assert export(results, "HSTU", "--formats=parquet", out="other") == 2
    assert "other: cannot be written (No space left on device)" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["bundle"]


def test_a_program_that_computes_something_else_is_not_written(results, monkeypatch):
    """The comparison notices weights that are not the model's."""
    rec = Recommender.load(results["HSTU"]["checkpoint"])
    programs = bundle.Programs(rec)
    programs.module.positions = torch.nn.Parameter(programs.module.positions * 1.01)
    with pytest.raises(InputError, match=r"model.onnx: its scores are .* off those of HSTU"):
        programs.write_onnx(Path("model.onnx"))
