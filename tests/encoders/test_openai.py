"""The real openai client against a local server that speaks the embeddings API, faults included."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from embeddings_server import KEY, WIDTH, config, sentences, vector
from filelock import FileLock
from text_files import encoder_of, texts_of, write_items

from recbole_hstu.data.files.side_feature_file import read_text_features
from recbole_hstu.encoders import ensure_text_features
from recbole_hstu.encoders import openai as encoder_module
from recbole_hstu.support.errors import InputError

pytest.importorskip("openai")


def test_vectors_find_their_texts(server, tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(25))
    features = read_text_features(ensure_text_features("toy", folder, config(server)))
    np.testing.assert_array_equal(features.vectors, np.stack([vector(t) for t in sentences(25)]))
    assert [len(request["input"]) for request in server.requests] == [10, 10, 5]
    request = server.requests[0]
    assert (request["path"], request["dimensions"]) == ("/v1/embeddings", WIDTH)
    assert request["model"] == "text-embedding-3-large"
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("fault", ["e429", "e500", "cut"])
def test_passing_faults_are_retried(server, tmp_path, fault):
    folder = write_items(tmp_path / "toy", texts_of(25))
    server.script = ["ok", fault, fault] if fault != "cut" else ["ok", fault]
    features = read_text_features(ensure_text_features("toy", folder, config(server)))
    np.testing.assert_array_equal(features.vectors, np.stack([vector(t) for t in sentences(25)]))
    assert sorted(server.paid) == sorted(sentences(25))


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        ("e429", r"rate limit or quota"),
        ("e500", r"127\.0\.0\.1: failed: .*The server had an error"),
        ("e401", "does not accept the key in OPENAI_API_KEY"),
        ("e400", r"refused the request: .*no such thing"),
        ("too many tokens", r"maximum context length.*text_max_length \(8191\)"),
        ("wrong number", "9 vectors for 10 texts"),
        ("twice the same", "vectors for 10 texts"),
        ("nan", "1 of 10 vectors of a batch are not finite"),
        ("zeros", "1 of 10 vectors of a batch are not finite or all zero"),
        ("short", "vectors of 7 numbers, text_dimensions is 8"),
        ("ragged", "vectors of 7, 8 numbers"),
        ("empty", r"not an answer|0 vectors"),
        ("not json", "not an answer to a request for embeddings"),
        ("other json", "not an answer to a request for embeddings"),
    ],
)
def test_lasting_faults_stop_the_run_and_keep_what_was_paid(server, tmp_path, fault, match):
    folder = write_items(tmp_path / "toy", texts_of(25))
    whole = ensure_text_features("toy", folder, config(server), output_folder=tmp_path / "whole")
    expected = whole.read_bytes()
    use_another_cache(tmp_path)
    server.paid.clear()
    server.script = ["ok", *[fault] * (encoder_module.RETRIES + 1)]
    with pytest.raises(InputError, match=match) as error:
        ensure_text_features("toy", folder, config(server))
    assert KEY not in str(error.value) and "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert not list(folder.glob("*.safetensors")) and not list(folder.glob(".*"))
    assert server.paid == sentences(10)

    server.script = []
    assert ensure_text_features("toy", folder, config(server)).read_bytes() == expected
    assert server.paid == sentences(25), "what was paid for must not be asked for again"


def use_another_cache(tmp_path):
    os.environ["RECBOLE_HSTU_CACHE"] = str(tmp_path / "another")  # undone by own_cache


def test_no_server_at_all(server, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_module, "RETRIES", 1)
    folder = write_items(tmp_path / "toy", texts_of(3))
    closed = {**config(server), "text_base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(InputError, match="could not be reached in 2 tries"):
        ensure_text_features("toy", folder, closed)


def test_a_text_is_paid_for_once_whoever_asks(server, tmp_path, monkeypatch):
    one = write_items(tmp_path / "one", texts_of(20) + texts_of(5))
    two = write_items(tmp_path / "two", texts_of(20, shift=10))
    ensure_text_features("toy", one, config(server))
    ensure_text_features("toy", two, config(server, text_storage_dtype="float16"))
    assert sorted(server.paid) == sorted(sentences(30))
    monkeypatch.delenv("OPENAI_API_KEY")  # all of it is there: no key, no server
    server.shutdown()
    path = ensure_text_features("toy", two, config(server, text_normalize=True))
    assert read_text_features(path).vectors.shape == (20, WIDTH)


def encode_in_processes(folder, settings, *places):
    """One process a place, all at once; a place is (output folder, cache)."""
    code = (
        "import sys, json; from recbole_hstu.encoders import ensure_text_features as run; "
        "run('toy', sys.argv[1], json.loads(sys.argv[2]), output_folder=sys.argv[3])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), json.dumps(settings), str(out)],
            env={**env, "RECBOLE_HSTU_CACHE": str(cache)},
        )
        for out, cache in places
    ]
    assert [child.wait(120) for child in children] == [0] * len(places)


def test_two_processes_pay_once(server, tmp_path, own_cache):
    server.pause = 0.1
    folder = write_items(tmp_path / "toy", texts_of(60))
    outs = [tmp_path / "a", tmp_path / "b"]
    encode_in_processes(folder, config(server), *((out, own_cache) for out in outs))
    assert sorted(server.paid) == sorted(sentences(60))
    first, second = (next(out.glob("*.safetensors")).read_bytes() for out in outs)
    assert first == second


def test_two_machines_that_share_the_data_and_no_cache_pay_once(server, tmp_path):
    server.pause = 0.1
    folder = write_items(tmp_path / "toy", texts_of(60))
    out = tmp_path / "shared"
    encode_in_processes(folder, config(server), (out, tmp_path / "one"), (out, tmp_path / "two"))
    assert sorted(server.paid) == sorted(sentences(60))
    (file,) = out.iterdir()  # the lock is gone
    assert file.suffix == ".safetensors"


def test_who_waits_for_another_machine_says_so(server, tmp_path, caplog):
    folder = write_items(tmp_path / "toy", texts_of(3))
    path = ensure_text_features("toy", folder, config(server))
    path.unlink()
    held = threading.Event()

    def other():
        with FileLock(folder / f".{path.name}.lock"):
            held.set()
            until = time.monotonic() + 60
            while "waiting for it" not in caplog.text and time.monotonic() < until:
                time.sleep(0.02)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with caplog.at_level(logging.INFO):
        ensure_text_features("toy", folder, config(server))
    thread.join()
    assert f"{path} is being made by another process; waiting for it to end" in caplog.text
    assert path.exists()


def test_a_file_that_will_do_is_read_from_a_folder_that_nobody_may_write(server, tmp_path):
    folder = write_items(tmp_path / "toy", texts_of(3))
    path = ensure_text_features("toy", folder, config(server))
    (folder / f".{path.name}.lock").mkdir()  # no lock can be had there
    assert ensure_text_features("toy", folder, config(server)) == path
    path.unlink()
    with pytest.raises(InputError, match="cannot be written"):
        ensure_text_features("toy", folder, config(server))


def test_the_key_is_nowhere(server, tmp_path, caplog, own_cache):
    caplog.set_level(logging.DEBUG)
    folder = write_items(tmp_path / "toy", texts_of(12))
    settings = config(server)
    settings["text_base_url"] = server.url.replace("http://", "http://user:pass-word@")
    server.script = ["e500", "ok", "e400"]
    with pytest.raises(InputError):
        ensure_text_features("toy", folder, settings)
    ensure_text_features("toy", folder, settings)
    written = [p for base in (folder, own_cache) for p in base.rglob("*") if p.is_file()]
    assert len(written) >= 3
    for path in written:
        blob = path.read_bytes()
        assert KEY.encode() not in blob and b"pass-word" not in blob, path
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("recbole_hstu"))
    assert KEY not in caplog.text and "pass-word" not in ours


def test_no_part_of_the_key_is_left_where_an_error_is_cut(server, tmp_path, monkeypatch):
    folder = write_items(tmp_path / "toy", texts_of(3))
    before = len(
        "Error code: 400 - {'error': {'message': 'no such thing, said the one with Bearer "
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret" + "k" * (320 - before))
    server.script = ["e400"]
    with pytest.raises(InputError, match=r"said the one with Bearer \[key\]") as error:
        ensure_text_features("toy", folder, config(server))
    assert "sk-secret" not in str(error.value)
    monkeypatch.setenv("OPENAI_API_KEY", "e")  # what a server that asks for none is given
    server.script = ["e400"]
    with pytest.raises(InputError, match="refused the request"):
        ensure_text_features("toy", folder, config(server))


def test_without_a_key(server, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    folder = write_items(tmp_path / "toy", texts_of(3))
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        ensure_text_features("toy", folder, config(server))
    assert not server.requests


def test_batches_keep_to_the_token_budget(server, monkeypatch):
    monkeypatch.setattr(encoder_module, "REQUEST_TOKENS", 100)
    encoder = encoder_of(config(server, text_batch_size=2048))
    encoder.encode([f"{i:02d}" + "x" * 38 for i in range(5)] + ["y" * 150])
    sizes = [len(request["input"]) for request in server.requests]
    assert sum(sizes) == 6 and sizes[-1] == 1
    for request in server.requests[:-1]:
        assert sum(encoder._count(text) for text in request["input"]) <= 100


def test_long_texts_are_cut_at_a_whole_character_and_counted(server, monkeypatch, caplog):
    monkeypatch.setattr(encoder_module, "_tokenizer", lambda model: BYTES)
    encoder = encoder_of(config(server, text_max_length=9))
    with caplog.at_level(logging.WARNING):
        assert encoder.prepare(["ääääää", "ab", "", "x" * 9]) == ["ääää", "ab", " ", "x" * 9]
    assert "1 of 4 texts are longer than 9 tokens" in caplog.text
    one = encoder_of(config(server, text_max_length=1))
    assert one.prepare(["ä guitar"]) == [" "]  # no whole character has room


@pytest.mark.parametrize(
    "address", ["http://[::1", "https://", "http://host:99999/v1", "ftp://host", "http://[abc]/v1"]
)
def test_addresses_that_are_none(server, address):
    with pytest.raises(InputError, match=r"text_base_url: .*is no address such as"):
        encoder_of(config(server, text_base_url=address))


BYTES = (encoder_module._count_bytes, encoder_module._cut_bytes)


def test_tiktoken_counts_where_it_has_a_table(monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    table = {bytes([i]): i for i in range(256)}
    table.update({b"gu": 256, b"it": 257, b"guit": 258, b"ar": 259, b"guitar": 260})
    small = tiktoken.Encoding("small", pat_str=r"\S+|\s", mergeable_ranks=table, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda model: small)
    count, cut = encoder_module._tokenizer("any")
    assert count("guitar ar") == 3
    assert cut("guitar ar x", 3) == "guitar ar"
    assert cut("guitar ar", 9) == "guitar ar"
    assert cut("é" * 8, 3) == "é"


def test_without_a_table_bytes_are_counted_and_it_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        count, cut = encoder_module._tokenizer("no-such-model")
    assert "tiktoken has no token table" in caplog.text
    assert (count("é1"), cut("é1", 2)) == (3, "é")
