"""`recbole-hstu serve` as a process: it stops gracefully, and refuses in one line."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from missing_modules import environment_without
from running_service import Client
from served import toy_with_text, trained
from waiting import until

from recbole_hstu.cli import main
from recbole_hstu.service.item_titles import read_titles
from recbole_hstu.service.serve import open_door
from recbole_hstu.serving.recommender import Recommender

ASKED = json.dumps({"histories": [[["i1", 5]]], "at": 20, "k": 1}).encode()


def test_a_stop_finishes_what_is_at_work(models):
    """Half of the body has come when SIGTERM does."""
    file = models[0].rec.saved.path
    command = [
        sys.executable,
        "-m",
        "recbole_hstu.cli",
        "serve",
        str(file),
        "--port=0",
        "--probes=2",
    ]
    folder = file.parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            port = int(url.removesuffix("/").rpartition(":")[2])
            assert url == f"http://127.0.0.1:{port}/"
            until(lambda: Client(port).get("/healthz")[0] == 200)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
                head = f"Content-Type: application/json\r\nContent-Length: {len(ASKED)}\r\n\r\n"
                line.sendall(f"POST /recommend HTTP/1.1\r\nHost: x\r\n{head}".encode() + ASKED[:9])
                until(lambda: "waiting 2.0" in Client(port).get("/metrics")[2])
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionError):
                    until(lambda: Client(port).get("/healthz")[0] is None)
                line.sendall(ASKED[9:])
                assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "serve CHECKPOINT: CHECKPOINT is missing"),
        (["absent.pth"], "absent.pth: no such checkpoint"),
        (["FILE", "--prot=1"], "unknown option 'prot'; did you mean 'port'?"),
        (["FILE", "--port=many"], "--port: 'many' must be a whole number 0 to 65,535"),
        (["FILE", "--dataset=None"], "--dataset: has no value; give it one, or leave it out"),
        (["FILE", "--cache_mb=0"], "--cache_mb: 0 must be"),
        (["FILE", "--probes=-1"], "--probes: -1 must be a whole number 0 to 65,536"),
        (["FILE", "FILE"], "have one name; rename one"),
        (["FILE", "--host=no.such.host.invalid"], "of no.such.host.invalid cannot be opened"),
    ],
)
def test_bad_arguments(models, capsys, arguments, words):
    file = str(models[0].rec.saved.path)
    given = [argument.replace("FILE", file) for argument in arguments]
    if not any("port" in argument for argument in given) and given:
        given.append("--port=0")
    assert main(["serve", *given]) == 2
    problem = capsys.readouterr().err
    assert words in problem
    assert problem.count("\n") == 1


@pytest.mark.parametrize("token", ["abc\r", "two words", "pässword"])
def test_a_token_that_no_client_can_send(models, monkeypatch, capsys, token):
    monkeypatch.setenv("RECBOLE_HSTU_TOKEN", token)
    assert main(["serve", str(models[0].rec.saved.path), "--port=0"]) == 2
    problem = capsys.readouterr().err
    assert "RECBOLE_HSTU_TOKEN: holds what no client can send" in problem
    assert token not in problem


def test_a_port_that_is_taken(models, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(models[0].rec.saved.path), f"--port={port}"]) == 2
    assert f"port {port} of 127.0.0.1 cannot be opened (Address" in capsys.readouterr().err


def test_answers_do_not_wait_for_the_client_to_confirm_their_beginning():
    with open_door("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        line, _ = door.accept()
        with line:
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_the_extra_one_line_says_what_to_type():
    done = subprocess.run(
        [sys.executable, "-m", "recbole_hstu.cli", "serve", "any.pth"],
        env=environment_without("uvicorn"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert 'serve: needs the package uvicorn; pip install "recbole-hstu[serve]"' in done.stderr


def test_without_a_good_item_file_titles_are_not_known(toy, caplog):
    toy_with_text()
    file = trained("HSTU", item_text={"fields": ["title"]}, epochs=1)["checkpoint"]
    config = Recommender.load(file).saved.config
    assert len(read_titles(config)) == 30
    assert read_titles(config | {"data_path": "gone"}) == {}
    assert "toy.item: no such file" in caplog.text
    Path("dataset/toy/toy.item").write_text("item_id:token\ttitle:token_seq\ni1\ta\ni1\tb\n")
    assert read_titles(config) == {}
    assert "the search goes by the items' tokens alone" in caplog.text
