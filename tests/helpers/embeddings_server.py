"""A local server that speaks OpenAI's embeddings API, with bad manners on request."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from text_files import texts_of

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
