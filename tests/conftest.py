"""Every test runs in an empty folder; a small data set for those that want one."""

import threading

import pytest
import torch
from embeddings_server import KEY, Server
from golden_model import golden, write_text_file
from hypothesis import settings
from small_data import random_rows, write_inter

# The tensors here are tiny: a second thread only waits for the first.
torch.set_num_threads(1)
# A busy machine is no fault of the code: no test is failed by the clock.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


def pytest_collection_modifyitems(items):
    """Slow ones first: at the end no process waits long for the other's last test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """Runs write `log`, `saved` and `log_tensorboard` into the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toy():
    """A data set `toy` of 40 users and 30 items in `dataset/`."""
    return write_inter(random_rows())


@pytest.fixture
def text_file(tmp_path):
    """The recorded text vectors of the golden model."""
    arrays = golden("tiny_text_rand")
    return write_text_file(tmp_path, arrays["w/_embedding_module._text_embeddings"])


@pytest.fixture
def server(monkeypatch):
    """A local server of the embeddings API, its key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
