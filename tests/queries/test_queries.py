"""Queries of a language model: prompts, the LoRA step, the command; a tiny Llama made here."""

from pathlib import Path

import pytest
import torch
from served import write_items
from small_data import small_options

from recbole_hstu.cli import main
from recbole_hstu.data.files.query_file import read_queries, write_queries
from recbole_hstu.queries.language_model import LanguageModel
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


def test_the_command_learns_writes_and_reads_again(toy, capsys):
    write_items()
    tokenizer().save_pretrained("llama")
    tiny_llama().save_pretrained("llama")
    more = ["--llm_epochs=1", "--beams=2", "--new_tokens=4", "--lora_rank=2", "--show_progress=no"]
    line = ["queries", "--dataset=toy", "--item_text={fields: [title]}", "--llm=llama", *more]
    assert main([*line, "--adapter=lora", "--topk=[5]", "--valid_metric=NDCG@5"]) == 0
    queries = read_queries("dataset/toy/queries.jsonl")
    assert len(queries) == 40
    assert {len(texts) for texts in queries.values()} == {2}
    assert (Path("lora") / "adapter_model.safetensors").is_file()
    again = [*line, "--adapter=lora", "--out=again.jsonl", "--topk=[5]", "--valid_metric=NDCG@5"]
    assert main(again) == 0
    assert read_queries("again.jsonl") == queries
    options = {"queries": "again.jsonl", "item_text": {"fields": ["title"]}}
    assert len(run("GLoSS", "toy", config_dict=small_options("GLoSS", **options))["ranks"].users)
    capsys.readouterr()
    assert main(["queries", "--dataset=toy"]) == 2
    assert "llm: name a causal language model" in capsys.readouterr().err
    Path("nowhere").mkdir()
    elsewhere = [part.replace("=llama", "=nowhere") for part in line]
    assert main([*elsewhere, "--topk=[5]", "--valid_metric=NDCG@5"]) == 2
    assert "llm: nowhere" in capsys.readouterr().err


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
