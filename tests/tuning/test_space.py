"""Search spaces: both formats mean what they say, and nonsense is refused with file and key."""

import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hstu.config.config import Config
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.tuning.space import Parameter
from recbole_hstu.tuning.space_file import read_space

YAML = """\
learning_rate: {loguniform: [1e-4, 1e-2]}
hidden_dropout_prob: {uniform: [0, 0.5]}
n_layers: {int: [1, 3]}
hidden_size: {int: [16, 48, 16]}
weight_decay: {quniform: [0, 0.3, 0.1]}
mlp_hidden_size: {choice: [[64], [64, 32]]}
learner: {choice: [adam, null]}
"""

LINES = """\
# RecBole's own
learning_rate loguniform -8,0
embedding_size choice [64, 96 , 128]
train_batch_size quniform 300,1000,200
drop uniform 0.1,0.5
loss choice ['BPR','CE']
"""


def write(text, name="space.yaml"):
    Path(name).write_text(text)
    return name


def points_of(parameter):
    count = parameter.count()
    return None if count is None else [parameter.point(place) for place in range(count)]


def test_yaml():
    space = read_space(write(YAML))
    points = {p.name: points_of(p) for p in space.parameters}
    assert points == {
        "learning_rate": None,
        "hidden_dropout_prob": None,
        "n_layers": [1, 2, 3],
        "hidden_size": [16, 32, 48],
        "weight_decay": [0.0, 0.1, 0.2, 0.3],
        "mlp_hidden_size": [[64], [64, 32]],
        "learner": ["adam", None],
    }
    assert space.parameters[0].values == (1e-4, 1e-2)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        values = space.suggest(study.ask())
        assert 1e-4 <= values["learning_rate"] <= 1e-2
        assert values["mlp_hidden_size"] in ([64], [64, 32])
        assert type(values["n_layers"]) is int
        assert values["weight_decay"] == pytest.approx(round(values["weight_decay"], 1))


def test_recboles_lines_mean_what_recbole_means():
    space = read_space(write(LINES, "HSTU.hyper"))
    assert space.parameters == (
        Parameter("learning_rate", "loguniform", (math.exp(-8), 1.0)),
        Parameter("embedding_size", "choice", (64, 96, 128)),
        # hyperopt rounds to multiples of q, half to even: 300 / 200 -> 2
        Parameter("train_batch_size", "quniform", (400.0, 1000.0, 200.0)),
        Parameter("drop", "uniform", (0.1, 0.5)),
        Parameter("loss", "choice", ("BPR", "CE")),
    )
    assert points_of(space.parameters[2]) == [400.0, 600.0, 800.0, 1000.0]


@given(st.integers(-50, 50), st.integers(1, 40), st.sampled_from([0.1, 0.25, 1, 3]))
def test_quniform_is_the_same_in_both_formats(low, steps, q):
    low, high = round(low * q, 9), round((low + steps) * q, 9)
    (of_yaml,) = read_space(write(f"a: {{quniform: [{low}, {high}, {q}]}}")).parameters
    (of_line,) = read_space(write(f"a quniform {low},{high},{q}", "a.hyper")).parameters
    assert of_yaml == of_line
    points = points_of(of_yaml)
    assert len(points) == steps + 1
    assert (points[0], points[-1]) == (low, high)
    assert all(type(point) is float for point in points)
    assert all(map(of_yaml.contains, points))
    assert not any(map(of_yaml.contains, (low - q, low + q / 2, high + q, "low")))


def test_the_grid_is_every_combination_once():
    space = read_space(write("a: {choice: [x, [1, 2]]}\nb: {int: [1, 2]}\n"))
    assert space.grid_size() == 4
    assert [space.combination(number) for number in range(4)] == [
        {"a": "x", "b": 1},
        {"a": "x", "b": 2},
        {"a": "[1, 2]", "b": 1},
        {"a": "[1, 2]", "b": 2},
    ]


def test_a_grid_is_never_made_as_a_whole():
    space = read_space(write("a: {int: [1, 900000000]}\nb: {int: [1, 900000000]}\n"))
    assert space.grid_size() == 900_000_000**2
    assert space.combination(900_000_000 + 7) == {"a": 2, "b": 8}
    assert space.combination(space.grid_size() - 1) == {"a": 900_000_000, "b": 900_000_000}


def test_shipped_spaces_by_name():
    assert read_space("HSTU").plain()["learning_rate"] == {"loguniform": [3e-4, 1e-2]}
    assert read_space("properties/hyper/SASRec.yaml").parameters


@pytest.mark.parametrize("name", sorted(file.stem for file in (PROPERTIES / "hyper").iterdir()))
def test_shipped_spaces_are_of_their_model(name):
    for parameter in read_space(name).parameters:
        for value in parameter.extremes():
            config = Config(name.split("-")[0], "ml-100k", None, {parameter.name: value})
            assert config[parameter.name] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 3", r"space.yaml: a: expected \{KIND: \[...\]\}"),
        ("a: {normal: [0, 1]}", "a: expected .* one of choice, uniform, loguniform, quniform, int"),
        ("a: {uniform: 3}", "a: uniform: expected a list"),
        ("a: {uniform: [1, 1]}", r"a: uniform: expected \[low, high\], found \[1, 1\]"),
        ("a: {uniform: [0, .inf]}", "a: uniform"),
        ("a: {uniform: [x, y]}", "a: uniform"),
        ("a: {loguniform: [0, 1]}", "a: loguniform: expected .* 0 < low"),
        ("a: {loguniform: [-8, 0]}", "a: loguniform: expected .* 0 < low"),
        ("a: {int: [1, 2.5]}", "a: int: expected whole numbers"),
        ("a: {int: [1, 4, 2]}", "a: int: .* whole steps apart"),
        ("a: {quniform: [1, 10, 4]}", "a: quniform: .* multiples of q"),
        ("a: {quniform: [1, 10]}", "a: quniform"),
        ("a quniform 0,inf,1", "a: quniform: expected"),
        ("a: {quniform: [0, 1.0e+30, 0.1]}", "a: quniform: expected"),
        ("a: {choice: []}", "a: choice: expected different values"),
        ("a: {choice: [1, 1]}", "a: choice: expected different values"),
        ("", "names no option"),
        ("- a", "expected `key: value` lines"),
        ("a uniform 0,1\nb uniform 0", "space.yaml, line 2: b: uniform"),
        ("a uniform 0,1\nb", "line 2: expected `NAME KIND VALUES` .*, found 'b'"),
        ("a uniform 0,1\nb int 0,1,2", "line 2: expected .* found 'b int 0,1,2'"),
        ("a uniform 0,x", "line 1: a: 0,x is no list of numbers"),
        ("a choice [1,2", r"line 1: a: \[1,2 is no list of values"),
        ("a choice __import__('os')", "is no list of values"),
        ("a uniform 0,1\na uniform 0,2", "a: named twice"),
        ("a normal 0,1", "line 1: expected `NAME KIND VALUES` .*, found 'a normal 0,1'"),
        ("a b: {int: [1, x]}", "space.yaml: a b: int: expected"),
        ("a choice {'CE','BPR'}", "line 1: a: {'.*'} is no list of values"),
        ("a choice [{'CE'}]", "line 1: a: choice: {'CE'} is no plain value; use numbers"),
        ("a choice [['x', {1}],'CE']", "line 1: a: choice: .* is no plain value"),
        ("a choice [b'CE','BPR']", "line 1: a: choice: b'CE' is no plain value"),
        ("a: {choice: [!!set {CE}, CE]}", "space.yaml: a: choice: {'CE'} is no plain value"),
        ("a: [{b: !!set {CE}}, CE]", "space.yaml: a: choice: {'b': {'CE'}} is no plain value"),
        ("a loguniform 0,800", "a: loguniform"),
    ],
)
def test_nonsense(text, message):
    with pytest.raises(InputError, match=message):
        read_space(write(text))


def test_no_such_file():
    with pytest.raises(InputError, match=r"--params_file=none.yaml: no such file; known .* HSTU"):
        read_space("none.yaml")
    with pytest.raises(InputError, match=r"--params_file=none/HSTU.yaml: no such file"):
        read_space("none/HSTU.yaml")  # a path to nothing is no name of ours


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.001, 0.01], "loguniform"),
        ([0.0, 0.5], "uniform"),
        ([0.01, 0.001], "choice"),
        ([1, 4], "choice"),
        ([0.1, 0.2, 0.3], "choice"),
        (["adam", "sgd"], "choice"),
    ],
)
def test_a_bare_list_is_understood_and_said_which_way(values, kind, caplog):
    caplog.set_level("INFO")
    (parameter,) = read_space(write(f"x: {values}")).parameters
    assert (parameter.kind, list(parameter.values)) == (kind, values)
    assert f"space.yaml: x: {values} is taken as {{{kind}: {values}}}" in caplog.text
