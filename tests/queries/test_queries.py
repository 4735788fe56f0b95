"""Queries of a language model: prompts, the LoRA step, the command; a tiny Llama made here."""

from pathlib import Path

import pytest
import torch
from served import write_items
from small_data import small_options

from recbole_hstu.cli import main
from recbole_hstu.data.files.query_file import read_queries, write_queries
from recbole_hstu.queries.language_model import LanguageModel, rate
from recbole_hstu.queries.make_queries import own_options
from recbole_hstu.queries.prompts import answer, prompt
from recbole_hstu.quick_start import run
from recbole_hstu.support.errors import InputError

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft", reason="the extra llm is not installed")


def tokenizer():
    """Of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: id for id, word in enumerate(["<s>", "</s>", *letters])}
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>"
    )


def tiny_llama():
    config = transformers.LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def test_a_prompt_holds_the_history_in_order():
    text = prompt(["a drum", "a reed"], "Go on.") + answer("a bow")
    assert text == (
        "Go on.\n\nPurchase history:\nTitle: a drum\nTitle: a reed\n\nNext item:\nTitle: a bow"
    )


def test_the_loss_is_that_of_every_token_and_of_no_padding():
    found = LanguageModel(tiny_llama(), tokenizer(), max_length=8)
    texts = ["abcdefghijk", "xyz"]  # the first one loses its beginning
    total, count = 0.0, 0
    for text in ("efghijk", "xyz"):
        ids = torch.tensor([[*found.tokenizer(text)["input_ids"], 1]])
        logits = found.model(input_ids=ids).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    assert found.loss(texts).item() == pytest.approx(total / count, rel=1e-5)


def test_a_step_moves_the_low_rank_weights_alone():
    found = LanguageModel(tiny_llama(), tokenizer())
    found.add_lora(4, 8)
    before = {name: value.clone() for name, value in found.model.named_parameters()}
    settings = {"epochs": 4, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 0, "seed": 1}
    losses = list(found.train(["Title: red"] * 4, **settings))
    assert losses == sorted(losses, reverse=True)
    for name, value in found.model.named_parameters():
        assert torch.equal(value, before[name]) == ("lora_" not in name), name


def test_the_rate_falls_from_step_to_step():
    """Two steps of AdamW on one text move a weight by its rate each: .001 and half of it."""
    found = LanguageModel(tiny_llama(), tokenizer())
    found.add_lora(4, 8)
    settings = {"epochs": 2, "batch_size": 1, "learning_rate": 0.001, "warmup_steps": 0, "seed": 1}
    list(found.train(["Title: red"], **settings))
    weights = found.model.named_parameters()  # the B of low-rank weights starts from 0
    furthest = max(value.abs().max().item() for name, value in weights if "lora_B" in name)
    assert furthest == pytest.approx(0.0015, rel=0.05)


def test_the_rate_goes_up_to_one_and_down_to_nothing():
    rates = [rate(step, 10, 4) for step in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[-1] == 0
    assert rate(0, 3, 0) == 1 and rate(9, 10, 300) == pytest.approx(10 / 300)


@pytest.fixture
def line(toy):
    """The command, with a data set and a model."""
    write_items()
    tokenizer().save_pretrained("llama")
    tiny_llama().save_pretrained("llama")
    more = ["--llm_epochs=1", "--beams=2", "--new_tokens=4", "--lora_rank=2", "--show_progress=no"]
    more += ["--topk=[5]", "--valid_metric=NDCG@5"]
    return ["queries", "--dataset=toy", "--item_text={fields: [title]}", "--llm=llama", *more]


def test_the_seed_decides_and_an_adapter_is_read_only_for_what_it_was_learned_from(line, capsys):
    for state, folder in enumerate(("lora", "same")):
        torch.manual_seed(state)
        assert main([*line, f"--adapter={folder}", "--rm_dup_inter=first"]) == 0
        assert "0 repeated interactions left out" in capsys.readouterr().err
    weights = [Path(name, "adapter_model.safetensors").read_bytes() for name in ("lora", "same")]
    assert weights[0] == weights[1]
    again = [*line, "--rm_dup_inter=first", "--adapter=lora", "--out=again.jsonl"]
    for other, words in {
        "--seed=7": "adapter: lora: was learned with seed 2020, not 7; name a new folder",
        "--lora_alpha=3": "lora_alpha 16, not 3",
        "--MAX_ITEM_LIST_LENGTH=2": "hash of the texts",
        "--protocol=paper": "protocol recbole, not paper; split {'LS': 'valid_and_test'}, not",
    }.items():
        assert main([*again, other]) == 2
        assert words in capsys.readouterr().err
    assert not Path("again.jsonl").exists()
    assert main([*again, "--llm_batch_size=3"]) == 0
    assert "adapter: lora is read, nothing is learned" in capsys.readouterr().err
    Path("lora/learned_from.json").unlink()
    assert main(again) == 0
    assert "it does not say what it was learned from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model=HSTU"], "model: queries are written by --llm"),
        (["--llm_learning_rate=1e30"], "llm_learning_rate: 1e+30: the loss is nan in epoch"),
        (["--eval_args={split: {LS: valid_only}}"], "eval_args: the split has no test users"),
    ],
)
def test_what_cannot_end_well_leaves_the_file_before_as_it_was(line, capsys, options, words):
    Path("q.jsonl").write_text("good\n")
    assert main([*line, "--out=q.jsonl", "--adapter=new", *options]) == 2
    assert words in capsys.readouterr().err
    assert Path("q.jsonl").read_text() == "good\n"
    assert not Path("new").exists()


def test_files_that_are_cut_short_are_no_traceback(line, capsys):
    assert main([*line, "--adapter=lora"]) == 0
    for file, rest, words in (
        ("lora/adapter_config.json", "{}", "adapter: lora: "),
        ("llama/model.safetensors", "", "llm: llama: "),
    ):
        Path(file).write_text(rest)
        assert main([*line, "--adapter=lora", "--out=again.jsonl"]) == 2
        assert words in capsys.readouterr().err


def test_a_model_of_fewer_tokens_is_asked_for_no_more(caplog):
    assert LanguageModel(tiny_llama(), tokenizer(), max_length=3000).max_length == 2048
    assert "llm_max_length: the model takes 2048 tokens, not 3000" in caplog.text


def test_a_tokenizer_without_an_end_is_refused():
    endless = tokenizer()
    endless.eos_token = None
    with pytest.raises(InputError, match="no token for the end of a text"):
        LanguageModel(tiny_llama(), endless)


@pytest.mark.parametrize("option", ["--out=taken/q.jsonl", "--adapter=taken/lora", "--out=llama"])
def test_a_place_that_cannot_be_written_is_found_before_anything_is_learned(
    line, capsys, monkeypatch, option
):
    Path("taken").touch()
    monkeypatch.setattr(LanguageModel, "load", None)
    assert main([*line, option]) == 2
    said = capsys.readouterr().err
    assert "the folder cannot be written" in said or "--out=llama: is a folder" in said


def test_weights_that_cannot_be_written_are_no_traceback(in_empty_folder):
    Path("taken").touch()
    found = LanguageModel(tiny_llama(), tokenizer())
    found.add_lora(2, 2)
    for folder in ("taken", "taken/lora"):
        with pytest.raises(InputError, match=f"adapter: {folder}: cannot be written"):
            found.write_lora(folder, {})
    assert [path.name for path in Path().iterdir()] == ["taken"]


def test_the_command_learns_writes_and_reads_again(line, capsys):
    assert main([*line, "--adapter=lora"]) == 0
    queries = read_queries("dataset/toy/queries.jsonl")
    assert len(queries) == 40
    assert {len(texts) for texts in queries.values()} == {2}
    assert (Path("lora") / "adapter_model.safetensors").is_file()
    assert main([*line, "--adapter=lora", "--out=again.jsonl"]) == 0
    assert read_queries("again.jsonl") == queries
    options = {"queries": "again.jsonl", "item_text": {"fields": ["title"]}}
    assert len(run("GLoSS", "toy", config_dict=small_options("GLoSS", **options))["ranks"].users)
    capsys.readouterr()
    assert main(["queries", "--dataset=toy"]) == 2
    assert "llm: name a causal language model" in capsys.readouterr().err
    Path("no-model").mkdir()
    elsewhere = [part.replace("=llama", "=no-model") for part in line]
    assert main(elsewhere) == 2
    assert "llm: no-model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"new_tokens": 64, "llm_max_length": 64}, "new_tokens: 64 leave no room for a prompt"),
        ({"adapter": "taken"}, "adapter: taken: is a file"),
    ],
)
def test_what_would_fail_after_the_training_is_refused_before(in_empty_folder, options, message):
    Path("taken").touch()
    with pytest.raises(InputError, match=message):
        own_options({"llm": "llama", **options})
    with pytest.raises(InputError, match=r"queries: taken/q\.jsonl: cannot be written"):
        write_queries("taken/q.jsonl", {"u1": ["red"]})


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r'pip install "recbole-hstu\[llm\]"'):
        LanguageModel(tiny_llama(), tokenizer()).add_lora(2, 2)
