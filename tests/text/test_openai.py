"""The real openai client against a local server that speaks the embeddings API, faults included."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from text_files import texts_of, write_items

from recbole_hstu.data.text_features import read_text_features
from recbole_hstu.encoders import build_encoder, ensure_text_features
from recbole_hstu.encoders import openai as encoder_module
from recbole_hstu.errors import InputError

pytest.importorskip("openai")
KEY = "sk-secret-0123456789abcdef"
WIDTH = 8


def vector(text: str, width: int = WIDTH) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    row = np.random.default_rng(seed).normal(size=width).astype(np.float32)
    return row / np.linalg.norm(row)


class Server(ThreadingHTTPServer):
    """Answers requests in order with the faults in `script`, and well once it is used up."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.requests: list[dict] = []
        self.keys: set[str] = set()
        self.paid: list[str] = []
        self.pause = 0.0
        self.limit = 8192
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.pause)
        with self.server.lock:
            self.server.requests.append({"path": self.path, **body})
            self.server.keys.add(self.headers["Authorization"])
            fault = self.server.script.pop(0) if self.server.script else "ok"
        longest = max(len(text.encode()) for text in body["input"])
        if longest > self.server.limit:
            fault = "too many tokens"
        if fault == "ok":
            self.server.paid.extend(body["input"])
        getattr(self, fault.replace(" ", "_"))(body)

    def ok(self, body, change=lambda rows: rows):
        rows = [(i, vector(t, body.get("dimensions", WIDTH))) for i, t in enumerate(body["input"])]
        rows = change(rows)[::-1]  # the order of an answer is that of its indices, not its rows
        as_text = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(v.tobytes()).decode() if as_text else v.tolist(),
            }
            for i, v in rows
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        self.send(200, {"object": "list", "model": body["model"], "data": data, "usage": usage})

    def wrong_number(self, body):
        self.ok(body, lambda rows: rows[:-1])

    def twice_the_same(self, body):
        self.ok(body, lambda rows: [rows[0], *rows[:-1]])

    def nan(self, body):
        self.ok(body, lambda rows: [*rows[:-1], (rows[-1][0], rows[-1][1] * np.float32("nan"))])

    def zeros(self, body):
        self.ok(body, lambda rows: [*rows[:-1], (rows[-1][0], rows[-1][1] * 0)])

    def short(self, body):
        self.ok(body, lambda rows: [(i, v[:-1]) for i, v in rows])

    def ragged(self, body):
        self.ok(body, lambda rows: [*rows[:-1], (rows[-1][0], rows[-1][1][:-1])])

    def empty(self, body):
        self.ok(body, lambda rows: [])

    def not_json(self, body):
        self.send_bytes(200, b"<html>a proxy says hello</html>", "text/html")

    def other_json(self, body):
        self.send(200, {"hello": "world"})

    def e429(self, body):
        self.error(429, "Rate limit reached", {"retry-after-ms": "1"})

    def e500(self, body):
        self.error(500, "The server had an error", {"retry-after-ms": "1"})

    def e401(self, body):
        self.error(401, f"Incorrect API key provided: {self.headers['Authorization']}")

    def e400(self, body):
        self.error(400, f"no such thing, said the one with {self.headers['Authorization']}")

    def too_many_tokens(self, body):
        self.error(400, "This model's maximum context length is 8192 tokens")

    def cut(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b'{"object": "list", "data": [')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def error(self, status, message, headers=None):
        self.send(status, {"error": {"message": message, "type": "x", "code": None}}, headers)

    def send(self, status, content, headers=None):
        self.send_bytes(status, json.dumps(content).encode(), "application/json", headers)

    def send_bytes(self, status, blob, kind, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(blob)))
        self.end_headers()
        self.wfile.write(blob)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def config(server: Server, **more) -> dict:
    return {
        "text_encoder": "openai",
        "text_model": "text-embedding-3-large",
        "text_dimensions": WIDTH,
        "text_base_url": server.url,
        "text_batch_size": 10,
        "item_text": {"fields": ["title"]},
        "show_progress": False,
        **more,
    }


def sentences(count: int, shift: int = 0) -> list[str]:
    return [f"{text}." for text in texts_of(count, shift)]


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


def test_two_processes_pay_once(server, tmp_path):
    server.pause = 0.1
    code = (
        "import sys, json; from recbole_hstu.encoders import ensure_text_features as run; "
        "run('toy', sys.argv[1], json.loads(sys.argv[2]), output_folder=sys.argv[3])"
    )
    folder = write_items(tmp_path / "toy", texts_of(60))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    outs = [tmp_path / "a", tmp_path / "b"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), json.dumps(config(server)), str(out)], env=env
        )
        for out in outs
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert sorted(server.paid) == sorted(sentences(60))
    first, second = (next(out.glob("*.safetensors")).read_bytes() for out in outs)
    assert first == second


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


def test_without_a_key(server, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    folder = write_items(tmp_path / "toy", texts_of(3))
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        ensure_text_features("toy", folder, config(server))
    assert not server.requests


def test_batches_keep_to_the_token_budget(server, monkeypatch):
    monkeypatch.setattr(encoder_module, "REQUEST_TOKENS", 100)
    encoder = build_encoder(config(server, text_batch_size=2048))
    encoder.encode([f"{i:02d}" + "x" * 38 for i in range(5)] + ["y" * 150])
    sizes = [len(request["input"]) for request in server.requests]
    assert sum(sizes) == 6 and sizes[-1] == 1
    for request in server.requests[:-1]:
        assert sum(encoder._count(text) for text in request["input"]) <= 100


def test_long_texts_are_cut_at_a_whole_character_and_counted(server, monkeypatch, caplog):
    monkeypatch.setattr(encoder_module, "_tokenizer", lambda model: BYTES)
    encoder = build_encoder(config(server, text_max_length=9))
    with caplog.at_level(logging.WARNING):
        assert encoder.prepare(["ääääää", "ab", "", "x" * 9]) == ["ääää", "ab", " ", "x" * 9]
    assert "1 of 4 texts are longer than 9 tokens" in caplog.text


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
