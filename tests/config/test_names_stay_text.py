"""Names and paths are what they look like, on the command line, in files and in dictionaries."""

from pathlib import Path

import pytest
from small_data import random_rows, small_options, write_inter

from recbole_hstu.cli import main
from recbole_hstu.config.command_line import read_options
from recbole_hstu.config.config import Config
from recbole_hstu.studies.compare_file import read_variants
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import load_yaml, parse_value

NAMES = ["2023_01", "010", "12:30", "1e3", "0x10", "true", "no", "2024-01-01", "[a", "a: b", ".5"]


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize("key", ["dataset", "results_dir", "text_model", "TIME_FIELD", "storage"])
def test_a_name_is_no_number(tmp_path, key, text):
    assert parse_value(key, text) == text
    assert read_options([f"--{key}={text}"]) == {key: text}


@pytest.mark.parametrize("key", ["instruction", "llm", "adapter", "queries", "category_field"])
def test_a_sentence_is_not_cut(key):
    assert parse_value(key, "Rank the #1 item next") == "Rank the #1 item next"


@pytest.mark.parametrize("text", [name for name in NAMES if name not in ("[a", "a: b")])
def test_a_name_in_a_file_is_no_number(tmp_path, text):
    file = tmp_path / "x.yaml"
    lines = [f"dataset: {text}", "epochs: 010", f"nested: {{checkpoint_dir: {text}}}", f"{text}: 1"]
    file.write_text("\n".join(lines))
    content = load_yaml(file)
    assert content["dataset"] == content["nested"]["checkpoint_dir"] == text
    assert content["epochs"] == 8  # YAML's own reading of all else
    assert text in content


def test_nothing_is_still_nothing(tmp_path):
    for text in ("None", "", "~", "null"):
        assert parse_value("resume", text) is None
    (tmp_path / "x.yaml").write_text("a_file:\nb_file: ~\nc_file: null\nd_file: 'null'\n")
    assert list(load_yaml(tmp_path / "x.yaml").values()) == [None, None, None, "null"]


@pytest.mark.parametrize("text", ["'2023_01'", '"2023_01"'])
def test_quotes_are_taken_off(text):
    assert parse_value("dataset", text) == "2023_01"


def test_other_values_stay_what_they_are():
    line = ["--epochs=3", "--topk=[1, 2]", "--train_seconds=1e3", "--a=12:30", "--mask_seen=no"]
    expected = {"epochs": 3, "topk": [1, 2], "train_seconds": 1e3, "a": "12:30", "mask_seen": False}
    assert read_options(line) == expected


def test_a_run_with_such_names(capfd):
    write_inter(random_rows(), name="2023_01")
    options = small_options(epochs=1, results_dir="010", checkpoint_dir="12:30", seeds=1)
    line = [f"--{key}={value}" for key, value in options.items()]
    assert main(["run", "--model=HSTU", "--dataset=2023_01", *line]) == 0
    assert list(Path("010").glob("HSTU+2023_01+recbole+seed1.run.json"))
    assert list(Path("12:30").glob("HSTU-2023_01-*-1.pth"))


def test_a_configuration_takes_them_from_files_and_dictionaries(tmp_path):
    (tmp_path / "x.yaml").write_text("dataset: 010\ncheckpoint_dir: 2024\n")
    config = Config("HSTU", None, [tmp_path / "x.yaml"], {"wandb_project": "1_000"})
    assert (config["dataset"], config["checkpoint_dir"]) == ("010", "2024")
    assert config["wandb_project"] == "1_000"


def test_a_number_that_python_gives_for_a_name_is_refused():
    with pytest.raises(InputError, match="checkpoint_dir: 2024 must be a text"):
        Config("HSTU", "toy", config_dict={"checkpoint_dir": 2024})


def test_labels_of_variants(tmp_path):
    (tmp_path / "x.yaml").write_text("2023_01: {model: HSTU}\n010: {model: Pop}\n")
    assert [variant.label for variant in read_variants(tmp_path / "x.yaml")] == ["2023_01", "010"]


@pytest.fixture
def yaml_files():
    names = ["a.yaml", "b c.yaml", "it's.yaml"]
    for number, name in enumerate(names):
        Path(name).write_text(f"epochs: {number + 1}\n")
    return names


@pytest.mark.parametrize(
    ("given", "files"),
    [
        (["a.yaml"], ["a.yaml"]),
        (["a.yaml other.yaml"], ["a.yaml", "other.yaml"]),
        (["b c.yaml"], ["b c.yaml"]),
        (["'b c.yaml' a.yaml"], ["b c.yaml", "a.yaml"]),
        (['["b c.yaml", a.yaml, 010]'], ["b c.yaml", "a.yaml", "010"]),
        (["a.yaml", "b c.yaml"], ["a.yaml", "b c.yaml"]),
        (["it's.yaml"], ["it's.yaml"]),
        (["C:\\a.yaml D:\\b.yaml"], ["C:\\a.yaml", "D:\\b.yaml"]),
        (["010"], ["010"]),
    ],
)
def test_configuration_files(yaml_files, given, files):
    line = [f"--config_files={text}" for text in given]
    assert read_options(line) == {"config_files": files}


@pytest.mark.parametrize("given", ["'a.yaml", "[a.yaml", "[{a: 1}]"])
def test_configuration_files_that_cannot_be_told(yaml_files, given):
    with pytest.raises(InputError, match="--config_files="):
        read_options([f"--config_files={given}"])


def test_a_file_with_a_space_is_read(toy, yaml_files, capfd):
    options = {k: v for k, v in small_options().items() if k != "epochs"}
    line = [f"--{key}={value}" for key, value in options.items()]
    assert main(["run", "--model=HSTU", "--dataset=toy", "--config_files=b c.yaml", *line]) == 0
    assert "epoch 1 of 2:" in capfd.readouterr().err
