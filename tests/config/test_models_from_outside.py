"""Models that stand elsewhere and options that are declared once: known wherever they are named."""

import copy
import pickle
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_data import command, small_options

from recbole_hstu.cli import main
from recbole_hstu.config import model_registry
from recbole_hstu.config.config import Config
from recbole_hstu.config.model_registry import find_model
from recbole_hstu.config.option_tables import options_page
from recbole_hstu.quick_start import evaluate, run
from recbole_hstu.studies.compare import compare_models
from recbole_hstu.support.errors import InputError
from recbole_hstu.training.checked_answers import check_answers

ROOT = Path(__file__).parents[2]
# It reads its option in a way that no search of its source would find.
SOURCE = """
from recbole_hstu.config.config import option
from recbole_hstu.model.hstu import HSTU

class Mine(HSTU):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.own = option(config, "".join(["wi", "dth"]))
"""


@pytest.fixture
def typed(monkeypatch):
    """A class as one types it into a notebook: no file holds it."""
    notebook = {"__name__": "__main__"}
    exec(SOURCE + "    options = {'width': 4}", notebook)
    monkeypatch.setattr(sys.modules["__main__"], "Mine", notebook["Mine"], raising=False)
    return notebook["Mine"]


@pytest.fixture
def module(monkeypatch):
    """A module and the YAML file of its model in this folder."""
    Path("outside.py").write_text(SOURCE)
    Path("Mine.yaml").write_text("width: 4  # (int, from 1) How wide.\nn_layers: 1\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "outside:Mine"
    sys.modules.pop("outside", None)


def test_a_class_of_a_notebook(toy, typed):
    """Trained, in a study, and judged from its checkpoint."""
    result = run(typed, "toy", config_dict=small_options(epochs=1, width=5))
    assert result["record"].config["width"] == 5
    assert evaluate(result["checkpoint"])["test_result"] == result["test_result"]
    table, failed = compare_models([typed, "Pop"], "toy", (), small_options(epochs=1, width=5))
    assert not failed
    assert "Mine" in table
    with pytest.raises(InputError, match="unknown option 'witdh'; did you mean 'width'"):
        Config(typed, "toy", config_dict={"witdh": 5})


def test_a_class_by_its_address(toy, module, capfd):
    assert main(command(model=module, width=6, epochs=1)) == 0
    (last,) = Path("saved").glob("Mine-toy-*.last.pth")
    capfd.readouterr()
    for given, message in (
        ("--width=0", "width: 0 must be a whole number from 1 on"),
        ("--width=wide", "width: 'wide' must be a whole number"),
        ("--widht=1", "unknown option 'widht'; did you mean 'width'?"),
    ):
        assert main([*command(model=module), given]) == 2
        assert message in capfd.readouterr().err
    assert main(["run", f"--model={module}", "--help"]) == 0
    said = capfd.readouterr().out
    assert "  --width=4                       (int, from 1) How wide.\n" in said
    assert "--n_layers=1 " in said  # its own default of an option of HSTU
    assert main([*command(model=module, width=6, epochs=2), f"--resume={last}"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Mine", "there is no module nowhere; it must lie in this folder"),
        ("outside:Yours", r"the module outside \(.*outside.py\) has no class 'Yours'"),
        ("math:Mine", r"the module math \(.*\) has no class 'Mine'"),
        ("outside.py:Mine", "there is no module outside.py; write --model=outside:Mine"),
        ("./outside:Mine", "expected module:Class, as in"),
        (":Mine", "expected module:Class, as in"),
        ("outside", "to name a class of outside.py write outside:Class"),
        ("outside.py", "to name a class of outside.py write outside:Class"),
        ("outside:option", "is no model; derive it from one of RecBole's"),
    ],
)
def test_addresses_that_lead_nowhere(module, name, message):
    with pytest.raises(InputError, match=message):
        find_model(name)


def test_a_mistake_in_a_module_is_told_as_it_is(module):
    Path("outside.py").write_text("import math\nmath.cosinus\n")
    with pytest.raises(AttributeError, match="cosinus"):
        find_model(module)


def test_a_kind_that_there_is_not(module):
    Path("Mine.yaml").write_text("width: 4  # (integer, from 1) How wide.\n")
    with pytest.raises(InputError, match=r"Mine\.yaml: width: \(integer, from 1\) is no kind"):
        Config(module, "toy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("width: 4  # Größe\n".encode("latin-1"), r"Mine\.yaml: is not UTF-8 text"),
        (b"width: 4\ndataset_settings: [toy]\n", r"Mine\.yaml: dataset_settings: expected"),
    ],
)
def test_files_of_a_class_that_cannot_be_read(module, content, message):
    Path("Mine.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Config(module, "toy")


def test_a_class_takes_up_an_option_that_its_base_takes_back(module):
    Path("Mine.yaml").write_text("width: 4\ntrain_neg_sample_args: {sample_num: 1}\n")
    given = {"train_neg_sample_args": {"sample_num": 3}}
    assert Config(module, "toy", None, given)["train_neg_sample_args"]["sample_num"] == 3


def test_a_package_gives_its_model_a_name(module, monkeypatch):
    installed = [EntryPoint("Mine", module, model_registry.ENTRY_POINTS)]
    installed += [EntryPoint("SASRec", module, model_registry.ENTRY_POINTS)]

    def entry_points(group, name=None):
        assert group == model_registry.ENTRY_POINTS
        return [entry for entry in installed if name in (None, entry.name)]

    monkeypatch.setattr(model_registry, "entry_points", entry_points)
    assert find_model("Mine") is find_model(module)
    assert Config("Mine", "toy")["width"] == 4
    with pytest.raises(InputError, match="--model=Mien: no such model; did you mean Mine"):
        find_model("Mien")
    with pytest.raises(InputError, match=r"--model=SASRec: is the name of several models; use "):
        find_model("SASRec")
    address = model_registry.recbole_models()["SASRec"] + ":SASRec"
    assert model_registry.address(find_model(address)) == address


# Right as it stands; tests spoil one answer.
PLAIN = """
import torch
from recbole.model.abstract_recommender import SequentialRecommender

class Plain(SequentialRecommender):
    options = {"loss_type": "CE", "train_neg_sample_args": None}

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.weight = torch.nn.Parameter(torch.zeros(self.n_items))

    def full_sort_predict(self, rows):
        scores = self.weight.expand(len(rows), -1).clone()
        return SCORES

    def calculate_loss(self, rows):
        loss = (self.weight**2).mean()
        return LOSS
"""


def plain(monkeypatch, scores="scores", loss="loss"):
    notebook = {"__name__": "__main__"}
    exec(PLAIN.replace("SCORES", scores).replace("LOSS", loss), notebook)
    monkeypatch.setattr(sys.modules["__main__"], "Plain", notebook["Plain"], raising=False)
    return notebook["Plain"]


def asked_one_by_one(monkeypatch, predict):
    """`Plain` without `full_sort_predict`: RecBole asks `predict` for every item."""
    kind = plain(monkeypatch)
    del kind.full_sort_predict
    kind.predict = predict
    return kind


def test_predictions_of_a_wrong_shape(toy, monkeypatch):
    kind = asked_one_by_one(monkeypatch, lambda self, rows: self.weight.expand(len(rows), -1))
    message = r"--model=Plain: predict gave \(\d+, 31\) of float32, expected \(\d+,\) of floats"
    with pytest.raises(InputError, match=message):
        run(kind, "toy", config_dict=small_options("Plain", protocol="paper", epochs=1))


def test_a_fault_of_a_model_of_ones_own_keeps_its_traceback(toy, monkeypatch):
    notebook = {"__name__": "__main__"}
    exec("def predict(self, rows): return {}['my own key']", notebook)
    kind = asked_one_by_one(monkeypatch, notebook["predict"])
    with pytest.raises(KeyError, match="my own key"):
        run(kind, "toy", config_dict=small_options("Plain", epochs=1))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("calculate_loss", "has no method calculate_loss (docs/extending.md)"),
        ("full_sort_predict", "has no method full_sort_predict, nor predict (docs/extending.md)"),
    ],
)
def test_a_method_that_is_missing(monkeypatch, method, message):
    kind = plain(monkeypatch)
    delattr(kind, method)
    with pytest.raises(InputError, match=re.escape(f"--model=__main__:Plain: {message}")):
        Config(kind, "toy")


def test_a_method_that_only_this_evaluation_asks_for(toy, monkeypatch):
    """In validation, in a test without one, and where a checkpoint is judged."""
    sampled = {"eval_args": {"mode": "uni5"}, "mask_seen": False}
    given = small_options("Plain", epochs=1, **sampled)
    expected = re.escape("--model=Plain: the model has no method predict (docs/extending.md)")
    with pytest.raises(InputError, match=expected):
        run(plain(monkeypatch), "toy", config_dict=given)
    with pytest.raises(InputError, match=expected):
        run(plain(monkeypatch), "toy", config_dict={**given, "protocol": "paper"})
    whole = small_options("Plain", epochs=1)
    file = run(plain(monkeypatch), "toy", config_dict=whole)["checkpoint"]
    with pytest.raises(InputError, match=expected):
        evaluate(file, config_dict=sampled)


def test_flat_scores_and_losses_of_several_parts_will_do(toy, monkeypatch):
    model = plain(monkeypatch, "scores.flatten()", "(loss, loss.detach().reshape(1))")
    result = run(model, "toy", config_dict=small_options("Plain", epochs=1))
    assert len(result["record"].history) == 1
    assert result["test_result"]


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (
            {"scores": "scores[:, 1:]"},
            "full_sort_predict gave (40, 30) of float32, expected (40, 31)",
        ),
        ({"loss": "None"}, "calculate_loss gave None, expected a tensor of one number"),
    ],
)
def test_a_run_with_answers_of_a_wrong_shape(toy, monkeypatch, spoilt, message):
    with pytest.raises(InputError, match=re.escape(f"--model=Plain: {message}")):
        run(plain(monkeypatch, **spoilt), "toy", config_dict=small_options("Plain", epochs=1))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.zeros(1, 31), "gave (1, 31) of float32, expected (40, 31) of floats"),
        (torch.zeros(40, 31, dtype=torch.int64), "gave (40, 31) of int64, expected (40, 31) of"),
        (None, "gave None, expected (40, 31) of floats"),
    ],
)
@torch.no_grad()
def test_scores_of_a_wrong_shape(scores, message):
    model = SimpleNamespace(
        full_sort_predict=lambda rows: scores, calculate_loss=None, predict=None
    )
    check_answers(model, "Plain", 31)
    with pytest.raises(InputError, match=re.escape(f"--model=Plain: full_sort_predict {message}")):
        model.full_sort_predict(range(40))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.zeros(31, requires_grad=True), "gave (31,) of float32, expected a tensor of one"),
        (torch.zeros(()), "gave () of float32 without a gradient, expected a tensor of one"),
        ((torch.zeros((), requires_grad=True), 0.5), "gave () of float32, 0.5, expected"),
        (0.5, "gave 0.5, expected a tensor of one number with a gradient"),
    ],
)
def test_losses_of_a_wrong_shape(loss, message):
    model = SimpleNamespace(full_sort_predict=None, predict=None, calculate_loss=lambda rows: loss)
    check_answers(model, "Plain", 31)
    with pytest.raises(InputError, match=re.escape(f"--model=Plain: calculate_loss {message}")):
        model.calculate_loss(range(40))


def test_a_copy_of_a_model_gives_its_own_answers():
    """As of a teacher that follows its student; RecBole's RecVAE asks with an option more."""
    model = Student()
    check_answers(model, "Student", 31)
    teacher = copy.deepcopy(model)
    teacher.weight.data += 1
    assert model.calculate_loss(None, times=2).item() == teacher.calculate_loss(None).item() == 2
    assert torch.equal(pickle.loads(pickle.dumps(model)).weight, model.weight)


class Student(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def calculate_loss(self, rows, times=1):
        return self.weight * times

    def full_sort_predict(self, rows):
        return self.weight.expand(len(rows), 31)

    def predict(self, rows):
        return self.weight.expand(len(rows))


def test_the_page_of_options_is_what_the_files_declare():
    assert (ROOT / "docs/options.md").read_text() == options_page()
