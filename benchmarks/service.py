"""The service over HTTP: latency, overload, memory.

    python benchmarks/service.py latency --items=10000,1000000 --histories=10,50,200,1000
    python benchmarks/service.py overload
    python benchmarks/service.py memory --requests=100000

The weights are drawn, not trained, which changes no time. Server and clients are two processes on
the same machine; every client has one connection and sends its next request when the answer is
there. `overload`: many more clients than may wait; an answer is 200 or 429, and all are counted.
`memory`: what the server holds while it answers many small requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np

START, AT = 1_600_000_000, 1_700_000_000
USERS = 64
write = sys.stdout.write


def serve(items: int, history: int) -> None:
    """The server's process: prints its port."""
    import uvicorn
    from serving import recommender

    from recbole_hstu.service.app import make_app
    from recbole_hstu.service.connection import Connection
    from recbole_hstu.service.item_titles import ItemTitles
    from recbole_hstu.service.serve import open_door
    from recbole_hstu.service.served_model import ServedModel

    rec = recommender(items, history)
    model = ServedModel("drawn", rec, ItemTitles(rec.saved.item_tokens, {}), 256 << 20)
    config = uvicorn.Config(make_app([model]), http=Connection, log_level="error", access_log=False)
    with open_door("127.0.0.1", 0) as door:
        write(f"{door.getsockname()[1]} {model.cache.bytes_a_user}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[door])


@contextmanager
def server(items: int, history: int, threads: int = 1) -> Iterator[tuple[Any, int, int]]:
    """Its process, its port, and the bytes that its cache takes a user."""
    command = [sys.executable, __file__, "serve", f"--items={items}", f"--histories={history}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            line = process.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise SystemExit("the server did not start")
            port, size = map(int, line.split())
            yield process, port, size
        finally:
            process.terminate()


def request(path: str, content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Line:
    """One client's connection."""

    def __init__(self, port: int):
        self.port = port

    async def __aenter__(self) -> Line:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, sent: bytes) -> int:
        """The status of the answer; 0 where there is none."""
        try:
            self.writer.write(sent)
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
            await self.reader.readexactly(length)
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError):
            return 0


async def many(port: int, asked: list[bytes], clients: int, seconds: float, most: int = 10**9):
    """Seconds of every answer, and how many answers of each status there were."""
    took: list[float] = []
    statuses: Counter[int] = Counter()
    ends = time.perf_counter() + seconds

    async def client(number: int) -> None:
        async with Line(port) as line:
            while time.perf_counter() < ends and statuses.total() < most:
                started = time.perf_counter()
                number += 1
                status = await line.ask(asked[number % len(asked)])
                statuses[status] += 1
                took.append(time.perf_counter() - started)
                if not status:
                    return  # its connection is gone

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return np.array(took), statuses, time.perf_counter() - started


async def questions(port: int, items: int, history: int, cached: bool) -> list[bytes]:
    """A request for 20 items of each of the users, whose events are sent before where they are
    cached."""
    rng = np.random.default_rng(0)
    asked = []
    async with Line(port) as line:
        for user in range(USERS):
            ids = rng.integers(0, items, history)
            times = np.sort(rng.integers(START, AT, history)).tolist()
            events = [[f"i{id}", time] for id, time in zip(ids, times, strict=True)]
            given = {"users": [f"u{user}"]} if cached else {"histories": [events]}
            asked.append(request("/recommend", {**given, "k": 20, "at": AT}))
            if cached:
                await line.ask(request("/events", {"user": f"u{user}", "events": events}))
                await line.ask(asked[-1])
    return asked


async def one_latency(port: int, items: int, history: int, cached: bool, clients: int, given: Any):
    asked = await questions(port, items, history, cached)
    await many(port, asked, clients, 0.5)
    return await many(port, asked, clients, given.seconds)


def latency(given: Any) -> None:
    write("| items | history | threads | cached | clients | p50 ms | p95 ms | p99 ms |")
    write(" requests a second | bytes a user |\n" + "|---" * 10 + "|\n")
    for items in given.items:
        for history in given.histories:
            for threads in given.threads:
                with server(items, history, threads) as (_, port, size):
                    for cached in (False, True):
                        for clients in given.clients:
                            took, statuses, seconds = asyncio.run(
                                one_latency(port, items, history, cached, clients, given)
                            )
                            assert set(statuses) == {200}, statuses
                            p50, p95, p99 = 1000 * np.percentile(took, [50, 95, 99])
                            write(
                                f"| {items:,} | {history} | {threads} | {'yes' if cached else 'no'}"
                                f" | {clients} | {p50:.1f} | {p95:.1f} | {p99:.1f} "
                                f"| {len(took) / seconds:,.0f} | {size:,} |\n"
                            )
                            sys.stdout.flush()


def overload(given: Any) -> None:
    items, history = given.items[0], given.histories[0]
    write("| clients | requests | answered 200 | answered 429 | others | without an answer |\n")
    write("|---" * 6 + "|\n")
    with server(items, history) as (_, port, _):
        asked = asyncio.run(questions(port, items, history, False))
        for clients in (32, 64, 256, 500):
            _, statuses, _ = asyncio.run(many(port, asked, clients, given.seconds))
            n, known = statuses.total(), statuses[200] + statuses[429] + statuses[0]
            write(f"| {clients} | {n:,} | {statuses[200]:,} | {statuses[429]:,} | {n - known:,} ")
            write(f"| {statuses[0]:,} |\n")


def memory(given: Any) -> None:
    items, history = given.items[0], given.histories[0]
    write("| requests | the server holds MiB |\n|---|---|\n")
    with server(items, history) as (process, port, _):
        asked = asyncio.run(questions(port, items, history, True))
        step = max(1, given.requests // 10)
        done = 0
        while done < given.requests:
            _, statuses, _ = asyncio.run(many(port, asked, 8, 600, step))
            assert set(statuses) == {200}, statuses
            done += statuses.total()
            status = Path(f"/proc/{process.pid}/status").read_text()
            held = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            write(f"| {done:,} | {held:.1f} |\n")
            sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("latency", "overload", "memory", "serve"))
    for name, default in (
        ("items", "10000"),
        ("histories", "50"),
        ("clients", "1,32"),
        ("threads", "1,2"),
    ):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--requests", type=int, default=100_000)
    given = parser.parse_args()
    for name in ("items", "histories", "clients", "threads"):
        setattr(given, name, [int(n) for n in getattr(given, name).split(",")])
    if given.part == "serve":
        serve(given.items[0], given.histories[0])
    else:
        {"latency": latency, "overload": overload, "memory": memory}[given.part](given)


if __name__ == "__main__":
    main()
