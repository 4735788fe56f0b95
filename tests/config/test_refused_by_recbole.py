"""What RecBole's own models refuse or miss: one line, exit status 2."""

import sys

import pytest
from small_data import command

from recbole_hstu.cli import main


def refused(line, capfd):
    assert main(line) == 2
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert not out
    return err.splitlines()[-1].removeprefix("recbole-hstu: error: ")


def test_a_value(toy, capfd):
    said = refused(command(model="SASRec", n_heads=3), capfd)
    assert said.startswith("--model=SASRec: The hidden size (64) is not a multiple of the number")


@pytest.mark.parametrize(
    ("model", "package", "wheel"),
    [
        ("NCL", "faiss", "faiss-cpu"),
        ("KGIN", "torch_scatter", "torch-scatter"),
        ("MCCLK", "torch_scatter", "torch-scatter"),
    ],
)
def test_a_package_that_is_missing(model, package, wheel, toy, capfd, monkeypatch):
    for name in [name for name in sys.modules if name.endswith(f".{model.lower()}")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    data = "toy" if model == "NCL" else "ml-100k"
    said = refused(command(model=model, dataset=data, limit_users=25, epochs=1), capfd)
    assert said == f"--model={model}: needs the package {package}; pip install {wheel}"


def test_data_that_are_too_small(toy, capfd):
    said = refused(command(model="DGCF", epochs=1), capfd)
    assert said.startswith("--model=DGCF: ")
    assert "recbole.model.general_recommender.dgcf, line " in said
