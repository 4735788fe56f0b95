"""Whatever a client sends, the answer is a clear one, and the service goes on."""

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from http.client import HTTPConnection
from itertools import islice

import pytest
from running_service import running
from waiting import until

from recbole_hstu.service import connection, guard
from recbole_hstu.service.messages import MAX_BODY, MAX_EVENTS, MAX_USERS

HISTORY = [["i1", 5], ["i2", 7]]
GOOD = {"histories": [HISTORY], "at": 20, "k": 3}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"histories": [[["gone", 5]]]}, 409, "does not know: gone"),
        ({"histories": [[]]}, 422, "histories.0: List should have at least 1"),
        ({"histories": []}, 422, "at least 1"),
        ({"histories": None}, 409, "give histories or users"),
        ({"users": ["anna"]}, 409, "give histories or users"),
        ({"histories": None, "users": ["stranger"]}, 409, "nothing is known of the users stranger"),
        ({"histories": [[["i1", 7], ["i2", 5]]]}, 409, "oldest first"),
        (
            {"histories": [[["i1", 7.5]]]},
            422,
            "body.histories.0.0.1: Input should be a valid integer",
        ),
        ({"histories": [[["i1", float("nan")]]]}, 422, "integer"),
        ({"histories": [[["i1", float("inf")]]]}, 422, "integer"),
        ({"histories": [[["i1", 10**30]]]}, 422, "less than or equal"),
        ({"histories": [[["i1", True]]]}, 422, "integer"),
        ({"histories": [["i1"]]}, 409, "reads the times"),
        ({"histories": [[["i\x00", 5]]]}, 409, "does not know"),
        ({"histories": [["i1"] * (MAX_EVENTS + 1)]}, 422, "at most"),
        ({"histories": [["i1"]] * (MAX_USERS + 1)}, 422, "at most"),
        ({"at": None}, 409, "reads the time of the request"),
        ({"at": 6}, 409, "6 lies before the last event"),
        ({"at": [20, 20]}, 409, "2 times for 1 users"),
        ({"at": "20"}, 422, "body.at: Input should be a valid integer"),
        ({"k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"k": 31}, 409, "1 to the 30 items"),
        ({"histories": [HISTORY] * MAX_USERS, "k": 1000}, 409, "ask for fewer users at once"),
        ({"k": 10**9}, 422, "k: Input should be less than or equal to 1000"),
        ({"candidates": ["i1", "i2"]}, 409, "the 2 items"),
        ({"candidates": []}, 422, "candidates"),
        ({"candidates": ["i5", "i6"], "exclude": ["i5", "i6"], "k": 2}, 409, "no item is left"),
        ({"candidates": ["i5", "i6", "i7"], "exclude": ["i5"]}, 409, "the 2 items"),
        ({"exclude": [f"i{n}" for n in range(30)]}, 409, "no item is left"),
        ({"exclude": ["gone"]}, 409, "does not know: gone"),
        ({"on_unknown": "warn"}, 422, "'raise' or 'ignore'"),
        ({"model": "other"}, 404, "no model other"),
        ({"kk": 3}, 422, "body.kk: Extra inputs"),
        ({"k[0]": 3}, 422, "body.k[0]: Extra inputs"),
        ({"\ud800" * 1000: 3}, 422, "unicode"),
    ],
)
def test_bad_requests(service, changes, status, words):
    found, _, problem = service.post("/recommend", {**GOOD, **changes})
    assert found == status, problem
    assert list(problem) == ["detail"]
    assert words in problem["detail"] or len(problem["detail"]) > 400
    assert "\n" not in problem["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "body: Field required"),
        ("{", "the body is no JSON, at character 2"),
        ("[" * 100_000, "the body"),
        ('{"a":' * 50_000, "the body"),
        ("1" * 10_000, "the body"),
        (b"\xff\xfe", "the body"),
        (b"\x80\x04\x95cos\nsystem\n", "the body cannot be read"),  # a pickle
        ('{"k": 3, "k": 4}', "body: the key 'k' stands there twice; give it once"),
    ],
)
def test_bodies_that_are_no_json(service, body, words):
    status, _, problem = service.post("/recommend", body)
    assert status == 422
    assert problem["detail"].startswith(words)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/items?q=red", "query.q: unknown; known are query, limit, model"),
        ("/items?query[]=red", "query.query[]: unknown; known are query, limit, model"),
        ("/similar/i1?K=1", "query.K: unknown; known are k, model"),
        ("/similar/i1?k=2&k=3", "query.k: is given twice"),
        ("/models?k=1", "query.k: unknown; known are none"),
    ],
)
def test_parameters_that_nobody_knows(service, path, words):
    status, _, problem = service.get(path)
    assert (status, problem["detail"]) == (422, words)


def test_who_asks_for_the_head_alone_gets_it(service):
    for path in ("/healthz", "/"):
        status, _, body = service.raw("HEAD", path)
        assert (status, body) == (200, "")


def test_other_methods_paths_and_kinds_of_content(service):
    good = json.dumps(GOOD)
    assert service.post("/recommend", good)[0] == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/python-pickle"):
        status, _, problem = service.post("/recommend", good, content_type=kind)
        assert (status, problem["detail"]) == (415, "the body must be application/json")
    assert service.get("/recommend")[0] == 405
    assert service.get("/nothing")[0] == 404
    for path in ("/../setup.cfg", "/page/index.html", "/%2e%2e/page.js"):
        assert service.get(path)[0] == 404


def dialogue(service, head, pieces=()):
    """Send a request piece by piece until an answer comes; (bytes sent, what came)."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as line:
        sent = 0
        try:
            for piece in (head, *pieces):
                line.sendall(piece)
                sent += len(piece)
        except (TimeoutError, ConnectionError):
            pass
        try:
            return sent, line.recv(65536)
        except ConnectionError:
            return sent, b""


HEAD = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(service):
    _, answer = dialogue(service, HEAD + b"Content-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    kilobyte = b"400\r\n" + b" " * 1024 + b"\r\n"
    gigabyte = (kilobyte * 64 for _ in range(1 << 14))
    sent, answer = dialogue(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", gigabyte)
    assert sent < 20 << 20  # what the sockets hold, beyond the limit
    assert answer.startswith(b"HTTP/1.1 413 ") or answer == b""
    assert service.post("/recommend", " " * (MAX_BODY + 1))[0] == 413
    assert service.get("/healthz")[0] == 200


def test_a_header_of_a_megabyte_is_refused(service):
    head = HEAD + b"X-Long: "
    _, answer = dialogue(service, head, (b"a" * 65536 for _ in range(16)))
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
    assert service.get("/healthz")[0] == 200


def test_who_does_not_send_the_body_loses_the_place(models, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    with running(models, max_waiting=1) as service:
        _, answer = dialogue(service, HEAD + b'Content-Length: 100\r\n\r\n{"k"')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert service.post("/recommend", GOOD)[0] == 200


def test_who_does_not_read_the_answer_loses_the_connection_and_the_place(models, monkeypatch):
    """Until then the place is taken: the server holds the answer."""
    monkeypatch.setattr(connection, "SEND_SECONDS", 2.0)
    large = "x" * (16 << 20)  # beyond what the sockets hold
    monkeypatch.setattr(type(models[0]), "described", lambda self: large)
    with (
        running(models[:1], max_waiting=1) as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=20) as line,
    ):
        line.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n")
        line.recv(1)
        statuses, ends = [], time.monotonic() + 10
        while 200 not in statuses and time.monotonic() < ends:
            statuses.append(service.post("/recommend", GOOD)[0])
        assert set(statuses) == {429, 200}
        rest = iter(lambda: line.recv(1 << 20), b"")
        assert sum(map(len, rest)) < len(large)


def test_who_reads_a_large_answer_goes_on(models, monkeypatch):
    monkeypatch.setattr(connection, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(type(models[0]), "described", lambda self: "x" * (4 << 20))
    with running(models[:1]) as service, closing(HTTPConnection("127.0.0.1", service.port)) as line:
        line.request("GET", "/models")
        assert len(line.getresponse().read()) > 4 << 20
        time.sleep(1.1)
        line.request("GET", "/healthz")
        assert line.getresponse().status == 200


def test_overload_is_answered_at_once_and_nothing_is_lost(models, monkeypatch):
    kind, held = type(models[0]), threading.Event()
    honest = kind.recommend
    monkeypatch.setattr(
        kind, "recommend", lambda self, asked: held.wait(20) and honest(self, asked)
    )
    with running(models, max_waiting=4) as service, ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(service.post, "/recommend", GOOD) for _ in range(9)]
        refused = [one.result() for one in islice(as_completed(asked), 5)]
        for status, headers, problem in refused:
            assert (status, headers["Retry-After"]) == (429, "1")
            assert problem == {"detail": "too many requests wait; try again"}
        assert service.get("/healthz")[0] == 200
        held.set()
        assert sorted(one.result()[0] for one in asked) == [200] * 4 + [429] * 5
        assert service.post("/recommend", GOOD)[0] == 200


def test_a_failure_of_our_own_is_a_500_and_the_next_request_goes_on(models, monkeypatch, caplog):
    kind, failing = type(models[0]), [True]
    honest = kind.recommend
    monkeypatch.setattr(
        kind, "recommend", lambda self, asked: 1 / 0 if failing else honest(self, asked)
    )
    with running(models) as service, caplog.at_level(logging.CRITICAL):
        assert service.post("/recommend", GOOD)[0] == 500
        failing.clear()
        assert service.post("/recommend", GOOD)[0] == 200


def test_who_waits_for_too_long_when_the_service_stops_is_told_so(models, monkeypatch, caplog):
    kind, held, computed = type(models[0]), threading.Event(), []
    monkeypatch.setattr(
        kind, "explain", lambda self, asked: computed.append(asked) or (held.wait(20) and {})
    )
    asked = {"history": HISTORY, "items": ["i5"], "at": 20}
    with ThreadPoolExecutor(3) as pool:
        with running(models, stop_seconds=0.2) as service:
            answers = [pool.submit(service.post, "/contributions", asked) for _ in range(2)]
            until(lambda: "requests_waiting 3.0" in service.get("/metrics")[2])
            for answer in answers:
                answer.add_done_callback(lambda _: held.set())
        for answer in answers:
            status, _, problem = answer.result()
            assert (status, problem["detail"]) == (503, "the service stops; ask again")
    assert len(computed) == 1
    assert "Traceback" not in caplog.text


def test_a_token_is_wanted_where_there_is_one(models, caplog, capfd):
    with running(models, token="s3cret-t0ken") as service:
        for given in ({}, {"authorization": "Bearer s3cret"}, {"authorization": "s3cret-t0ken"}):
            status, headers, problem = service.post("/recommend", GOOD, **given)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "s3cret" not in problem["detail"]
        assert service.get("/metrics")[0] == 401
        assert service.get("/models")[0] == 401
        right = {"authorization": "bearer  s3cret-t0ken"}
        assert service.post("/recommend", GOOD, **right)[0] == 200
        counts = service.get("/metrics", **right)[2]
        assert "s3cret" not in counts
        assert 'requests_total{path="/recommend",status="401"} 3.0' in counts
        paths = service.get("/openapi.json")[2]["paths"]
        assert [path for path, how in paths.items() if "security" not in str(how)] == ["/healthz"]
        for path in ("/", "/page.js", "/page.css", "/docs", "/openapi.json", "/healthz"):
            status, _, text = service.get(path)
            assert status == 200
            assert "s3cret" not in str(text)
    assert "s3cret" not in caplog.text + "".join(capfd.readouterr())


def test_pages_load_nothing_from_elsewhere(service):
    for path in ("/", "/docs", "/page.js", "/page.css"):
        _, headers, text = service.get(path)
        assert "//" not in text.replace("// ", "").replace("</", "")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_is_the_same_whatever_its_query_says(service):
    for path in ("/", "/page.js"):
        assert service.get(f"{path}?page=hello")[2] == service.get(path)[2]


def test_metrics_count_by_path_and_not_by_what_clients_write(service):
    for path in ("/similar/i1", "/similar/i2", "/nonsense/1", "/nonsense/2"):
        service.get(path)
    text = service.get("/metrics")[2]
    assert 'requests_total{path="/similar/{item}",status="200"}' in text
    assert 'requests_total{path="other",status="404"}' in text
    assert "nonsense" not in text
    assert 'cached_users{model="hstu"}' in text
