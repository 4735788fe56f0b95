"""Real raw lines, an HTTP server with bad manners, and a way to run the command."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dataset_converters import cli

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
REAL = ROOT.parent / "shared/data/raw"


@pytest.fixture(scope="session")
def data() -> Path:
    """A few real lines of each source."""
    return DATA


@pytest.fixture(scope="session")
def real() -> Path:
    """The real slices; the test is skipped without them."""
    if not REAL.is_dir():
        pytest.skip("the real data slices are not here")
    return REAL


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between a test and its local server, and no stray offline switch."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "HF_HUB_OFFLINE":
            monkeypatch.delenv(name)


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
    """Run the command in this process; gives the data set's folder, or the error line if it fails.

    Called as convert("steam", "--raw", folder); `out` is the folder of data sets.
    """

    def run(*args: object, out: Path = tmp_path / "dataset") -> Path | str:
        caplog.set_level(logging.INFO)
        before = set(out.glob("[!.]*")) if out.exists() else set()
        status = cli.main([*map(str, args), "--out", str(out)])
        written = capsys.readouterr().err
        if status:
            assert status == 2
            assert "Traceback" not in written
            return written.splitlines()[-1]
        after = {p for p in out.glob("[!.]*") if p.name != "raw"}
        return (after - before or after).pop()

    return run


@pytest.fixture
def command():
    """Start the command as its own process."""

    def start(*args: object, **more: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "dataset_converters", *map(str, args)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return start


@dataclass
class Manners:
    """How the server treats requests for its one file."""

    body: bytes = b""
    cut_after: list[int] = field(default_factory=list)  # bytes sent by the next replies
    statuses: list[int] = field(default_factory=list)  # of the next replies
    ranges: bool = True
    wrong_range: bool = False
    length: int | None = None  # claimed instead of the true one
    etag: str = '"one"'
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[tuple[str, Manners]]:
    """A local HTTP server: its address and its manners."""
    manners = Manners()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            asked = self.headers.get("Range")
            manners.requests.append((self.command, asked))
            status = manners.statuses.pop(0) if manners.statuses and body else 200
            if status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = self._start(asked)
            if start >= len(manners.body) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(manners.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = manners.body[start:]
            self.send_response(206 if start else 200)
            if start:
                said = start + 7 if manners.wrong_range else start
                end, total = len(manners.body) - 1, len(manners.body)
                self.send_header("Content-Range", f"bytes {said}-{end}/{total}")
            self.send_header("ETag", manners.etag)
            length = len(part) if manners.length is None else manners.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if body:
                stop = manners.cut_after.pop(0) if manners.cut_after else len(part)
                self.wfile.write(part[:stop])
                self.wfile.flush()
                if stop < len(part) or length != len(part):
                    self.close_connection = True

        def _start(self, asked: str | None) -> int:
            known = self.headers.get("If-Range", manners.etag) == manners.etag
            found = re.fullmatch(r"bytes=(\d+)-", asked or "")
            return int(found[1]) if found and known and manners.ranges else 0

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/file.jsonl.gz", manners
    http.shutdown()
    http.server_close()
    thread.join()
