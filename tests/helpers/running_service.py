"""A real server on a free local port, in a thread of the test."""

import http.client
import json
import threading
from contextlib import contextmanager

from served import toy_with_text, trained
from waiting import until

from recbole_hstu.service.app import make_app
from recbole_hstu.service.item_titles import ItemTitles, read_titles
from recbole_hstu.service.serve import open_door, server_of
from recbole_hstu.service.served_model import ServedModel
from recbole_hstu.serving.recommender import Recommender


def small_models(*names):
    """Trained on the toy data in the working folder."""
    toy_with_text()
    text = {"item_text": {"fields": ["title"]}}
    found = []
    for name in names:
        rec = Recommender.load(trained(name, **text)["checkpoint"].resolve())
        titles = ItemTitles(rec.saved.item_tokens, read_titles(rec.saved.config))
        found.append(ServedModel(name.lower(), rec, titles, 1 << 20))
    return found


class Client:
    """Asks one service; an answer is (status, headers, JSON or text)."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def raw(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, answer.headers, json.loads(text) if text and "json" in kind else text

    def get(self, path, **headers):
        return self.raw("GET", path, **headers)

    def post(self, path, content, **headers):
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        return self.raw("POST", path, text, **{"content_type": "application/json", **headers})


@contextmanager
def running(models, stop_seconds=None, **options):
    """A `Client` of a service that runs while the block does; then what is at work has
    `stop_seconds`."""
    door = open_door("127.0.0.1", 0)
    server = server_of(make_app(models, **options), stop_seconds)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Client(door.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
