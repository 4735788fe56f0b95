"""Configuration: layers, protocols, values that are never evaluated, names that are known."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recbole.utils.argument_list import dataset_arguments

from recbole_hstu.config.config import PROPERTIES, Config
from recbole_hstu.config.model_registry import OWN_MODELS, find_model, recbole_models
from recbole_hstu.encoders import TextOptions
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.plain_values import python_value
from recbole_hstu.support.yaml_values import load_yaml, parse_value


def test_later_layers_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("learning_rate: 1e-2\ndropout_prob: 0.1\n")
    config = Config("GRU4Rec", "ml-100k", [file], {"dropout_prob": "0.2"})
    assert config["learning_rate"] == 0.01
    assert config["dropout_prob"] == 0.2
    assert config["hidden_size"] == 128  # RecBole's


@pytest.mark.parametrize("searching", [False, True])
def test_no_model_slows_the_others_down(monkeypatch, searching):
    """Importing RecBole's SINE searches every later backward pass of the process for NaN."""
    known = find_model("SINE")
    monkeypatch.delitem(sys.modules, known.__module__)
    with torch.autograd.set_detect_anomaly(searching):
        assert find_model("SINE") is not known  # imported once more
        assert torch.is_anomaly_enabled() == searching


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("[64, 32]", [64, 32]),
        ("{mode: uni100}", {"mode": "uni100"}),
        ("True", True),
        ("None", None),
        ("~", None),
        ("abc", "abc"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("{broken", "{broken"),
    ],
)
def test_values_are_yaml(text, value):
    assert parse_value("key", text) == value


@pytest.mark.parametrize("text", ["0x_", "0b_", "!!int x", "9" * 5000])
def test_what_only_begins_as_a_number_is_text(text, tmp_path):
    assert parse_value("epochs", text) == text
    file = tmp_path / "bad.yaml"
    file.write_text(f"epochs: {text}\n")
    with pytest.raises(InputError, match="not YAML"):
        load_yaml(file)


def test_val_interval_is_a_mapping():
    assert parse_value("val_interval", "{rating: '[4,inf)'}") == {"rating": "[4,inf)"}


def test_intervals_and_separators_stay_text():
    assert parse_value("user_inter_num_interval", "[5,10]") == "[5,10]"
    assert parse_value("field_separator", "\t") == "\t"


def test_nothing_is_evaluated(tmp_path):
    marker = tmp_path / "evaluated"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    file = tmp_path / "evil.yaml"
    file.write_text(f'wandb_project: "{code}"\n')
    config = Config("HSTU", "ml-100k", [file], {"data_path": code})
    assert config["wandb_project"] == code
    assert not marker.exists()
    file.write_text(f"wandb_project: !!python/object/apply:pathlib.Path.touch [{marker}]\n")
    with pytest.raises(InputError, match="not YAML"):
        Config("HSTU", "ml-100k", [file])


def test_the_command_line_is_the_commands_business(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prog", "--learning_rate=7"])
    assert Config("SASRec", "ml-100k")["learning_rate"] == 1e-3


def test_one_configuration_does_not_change_the_next():
    before = list(dataset_arguments)
    Config("HSTU", "ml-100k")
    assert dataset_arguments == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "HTSU"}, "did you mean HSTU"),
        ({"learing_rate": 1}, "did you mean 'learning_rate'"),
        ({"group_by_user": True}, "did you mean 'eval_args'"),
        ({"K": 3}, "did you mean 'topk'"),
        ({"max_item_list_length": 3}, "did you mean 'MAX_ITEM_LIST_LENGTH'"),
        ({"lowest_val": 3}, "did you mean 'val_interval'"),
        ({"zzz": 3}, r"unknown option 'zzz'; .* --model=SASRec --help shows all"),
        ({"protocol": "papre"}, "known are paper, recbole"),
        ({"metrics": "[Hitt]"}, "did you mean Hit?"),
        ({"topk": "[0]"}, r"topk: \[0\] must be whole numbers from 1 on"),
    ],
)
def test_unknown_names(options, message):
    model = options.pop("model", "SASRec")
    with pytest.raises(InputError, match=message):
        Config(model, "ml-100k", config_dict=options)


@pytest.mark.parametrize("key", ["n_layers", "hidden_dropout_prob", "text_encoder", "loss_type"])
def test_another_models_option_is_unknown(key):
    with pytest.raises(InputError, match=f"unknown option '{key}'"):
        Config("BPR", "ml-100k", config_dict={key: 1})


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        Config("HSTU", "ml-100k", ["nowhere.yaml"])
    with pytest.raises(InputError, match=r"^nowhere\.yaml: cannot be read"):
        Config("HSTU", "ml-100k", "nowhere.yaml")  # RecBole's habit is a list
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(InputError, match="expected `key: value` lines"):
        Config("HSTU", "ml-100k", [file])


@pytest.mark.parametrize("model", ["HSTU", "SASRec", "GRU4Rec", "BERT4Rec", "BPR", "Pop"])
def test_a_protocol_is_the_same_for_every_model(model):
    paper = Config(model, "ml-100k", config_dict={"protocol": "paper"})
    assert paper["eval_args"]["split"] == {"LS": "test_only"}
    assert paper["mask_seen"] is True
    assert paper["topk"] == [10, 50, 200]
    own = Config(model, "ml-100k")
    assert own["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert own["eval_args"]["order"] == "TO"
    assert own["valid_metric"] == "NDCG@10"
    assert own["mask_seen"] is False


def test_part_of_eval_args_leaves_the_rest():
    config = Config("SASRec", "ml-100k", config_dict={"eval_args": "{mode: uni100}"})
    assert config["eval_args"]["mode"] == {"valid": "uni100", "test": "uni100"}
    assert config["eval_args"]["order"] == "TO"


def test_parts_of_eval_args_come_from_files_and_from_the_command(tmp_path):
    split, mode = tmp_path / "split.yaml", tmp_path / "mode.yaml"
    split.write_text("eval_args: {split: {LS: test_only}}\n")
    mode.write_text("eval_args: {mode: uni50}\n")
    given = {"eval_args": "{mode: uni100}"}
    for files, options in (([split], given), ([mode, split], given), ([split, mode], {})):
        found = Config("SASRec", "ml-100k", files, options)["eval_args"]
        assert found["split"] == {"LS": "test_only"}
        assert found["mode"]["test"] == ("uni100" if options else "uni50")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("HSTU: {options: {epochs: 1, epochs: 2}}\n")
    with pytest.raises(InputError, match=r"not YAML: 'epochs' stands there twice"):
        load_yaml(file)
    file.write_text("a: &a {epochs: 1}\nb: {<<: *a, epochs: 2}\nc: *a\n")
    assert load_yaml(file)["b"] == {"epochs": 2}
    assert load_yaml(file)["a"] == {"epochs": 1}
    file.write_text("a: &a {epochs: 1}\nb: &b {topk: [3]}\nc:\n  <<: *a\n  <<: *b\n")
    assert load_yaml(file)["c"] == {"epochs": 1, "topk": [3]}


def test_movielens_times_are_loaded_and_left_alone():
    for name in ("ml-100k", "ml-1m"):
        config = Config("HSTU", name)
        assert "timestamp" in config["load_col"]["inter"]
        assert not config["normalize_all"]


def test_named_configuration():
    large = Config("HSTU-large", "ml-1m")
    assert large.model_class is find_model("HSTU")
    assert (large["n_layers"], large["n_heads"], large["qk_size"]) == (8, 2, 25)
    assert (large["hidden_size"], large["num_negatives"]) == (50, 128)  # HSTU's on MovieLens
    assert Config("HSTU-large", "ml-20m")["hidden_size"] == 256
    books = Config("HSTU-large", "amazon_books")
    assert (books["n_layers"], books["hidden_size"], books["num_negatives"]) == (16, 64, 512)


def test_the_papers_settings():
    config = Config("HSTU", "musical_instruments")
    expected = {"hidden_size": 64, "n_layers": 4, "n_heads": 4, "qk_size": 16, "v_size": 16}
    expected |= {"input_dropout_prob": 0.5, "hidden_dropout_prob": 0.5, "num_negatives": 512}
    expected |= {"MAX_ITEM_LIST_LENGTH": 50, "temperature": 0.05, "train_batch_size": 128}
    expected |= {"learner": "adamw", "learning_rate": 1e-3, "adam_betas": [0.9, 0.98]}
    expected |= {"weight_decay": 0.0, "epochs": 101, "extra_positions": 11}
    assert {key: config[key] for key in expected} == expected
    blair = Config("HSTUBLaIR", "musical_instruments")
    assert {key: blair[key] for key in expected} == expected
    assert blair["text_model"] == "hyp1231/blair-roberta-base"
    assert blair["text_normalize"] is False
    assert Config("HSTUOpenAI", "steam")["text_dimensions"] == 768


def test_text_defaults_stand_in_one_place():
    listed = load_yaml(PROPERTIES / "model" / "TextModel.yaml")
    for field in dataclasses.fields(TextOptions):
        assert listed[field.name] == field.default


def test_what_a_model_says_to_its_text_encoder_holds_for_no_other():
    def options(model, **given):
        return TextOptions.from_mapping(Config(model, "ml-100k", config_dict=given))

    assert options("HSTUBLaIR", text_encoder="lsa") == options("HSTUText")
    assert options("HSTUOpenAI", text_encoder="huggingface") == options("HSTUBLaIR")
    assert options("HSTUBLaIR", text_encoder="openai") == options("HSTUOpenAI")
    mean = options("HSTUBLaIR", text_encoder="huggingface", text_pooling="mean")
    assert (mean.text_model, mean.text_pooling) == ("hyp1231/blair-roberta-base", "mean")
    with pytest.raises(InputError, match="text_model: means nothing to text_encoder lsa"):
        options("HSTUBLaIR", text_encoder="lsa", text_model="mine")


def test_every_model_of_the_registry_loads():
    assert {"SASRec", "GRU4Rec", "BERT4Rec", "NARM", "BPR", "Pop", "Random"} <= set(
        recbole_models()
    )
    for name in OWN_MODELS:
        assert find_model(name).__name__ == name


def test_the_plain_configuration_survives_yaml():
    plain = Config("HSTU", "ml-100k").plain()
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    assert plain["device"] == str(torch.device("cpu")) or plain["device"] == "cuda"


@pytest.mark.parametrize("name", ["musical_instruments", "video_games", "office_products", "steam"])
def test_the_papers_data_sets(name):
    config = Config("HSTU", name)
    assert config["protocol"] == "paper"
    assert config["MAX_ITEM_LIST_LENGTH"] == 50
    steam = name == "steam"
    assert config["item_text"]["style"] == ("pipes" if steam else "sentences")
    assert config["item_text"]["fields"][0] == ("app_name" if steam else "title")


def test_any_category_of_amazon_has_amazons_properties():
    assert Config("HSTU", "all_beauty")["item_text"] == Config("HSTU", "video_games")["item_text"]
    assert Config("HSTU", "beauty_of_mine")["item_text"] is None


def test_what_is_not_set_is_no_unknown_option():
    """RecBole's users write it for all models with cross-entropy."""
    for model in ("HSTU", "SASRec"):
        given = {"train_neg_sample_args": None}
        assert (
            Config(model, "ml-100k", None, given)["train_neg_sample_args"]["distribution"] == "none"
        )


def test_mappings_of_the_caller_stay_as_they_are():
    given = {"train_neg_sample_args": {"sample_num": 2}}
    assert Config("BPR", "ml-100k", None, given)["train_neg_sample_args"]["sample_num"] == 2
    assert given == {"train_neg_sample_args": {"sample_num": 2}}


def test_values_of_numpy_are_those_of_python():
    given = {"seed": np.int64(3), "topk": np.array([5, 10]), "learning_rate": np.float32(0.5)}
    given |= {"mask_seen": np.bool_(True), "adam_betas": [np.float32(0.5), 0.75]}
    config = Config("HSTU", "toy", config_dict={**given, "valid_metric": np.str_("NDCG@5")})
    found = [config[key] for key in (*given, "valid_metric")]
    assert found == [3, [5, 10], 0.5, True, [0.5, 0.75], "NDCG@5"]
    assert [type(value) for value in found] == [int, list, float, bool, list, str]
    table = np.ones((2, 3))  # of a model of one's own
    assert python_value({"prior": table})["prior"] is table


def test_settings_beside_the_atomic_files(toy):
    """They win over ours for the data set; what is typed wins over them."""
    file = Path("dataset/toy/toy.yaml")
    file.write_text("MAX_ITEM_LIST_LENGTH: 7\nitem_text: {fields: [title]}\n")
    assert Config("SASRec", "toy")["MAX_ITEM_LIST_LENGTH"] == 7
    assert Config("SASRec", "toy", None, {"MAX_ITEM_LIST_LENGTH": 5})["MAX_ITEM_LIST_LENGTH"] == 5
    file.write_text("eval_args: {mode: uni5}\nMAX_ITEM_LIST_LENGTH: 7\n")
    assert Config("SASRec", "toy")["eval_args"]["split"] == {"LS": "valid_and_test"}
    file.write_text("MAX_ITEM_LIST_LENGTH: 7\nitem_text: {fields: [title]}\n")
    Path("dataset").rename("elsewhere")
    assert Config("SASRec", "toy")["MAX_ITEM_LIST_LENGTH"] == 50
    elsewhere = Config("SASRec", "toy", None, {"data_path": "elsewhere"})
    assert elsewhere["item_text"] == {"fields": ["title"]}
    Path("elsewhere/toy/toy.yaml").write_text("item_txt: {fields: [title]}\n")
    with pytest.raises(InputError, match="unknown option 'item_txt'; did you mean 'item_text'"):
        Config("SASRec", "toy", None, {"data_path": "elsewhere"})
