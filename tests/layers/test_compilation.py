"""`torch_compile`: the same numbers, or one line that says why not."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from hstu_batches import LENGTHS, make_batch, make_model, outcome
from small_data import command, files

from recbole_hstu.layers.blocks import hstu_block as layers
from recbole_hstu.layers.blocks.hstu_block import pointwise_attention


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler")
def test_compiled_attention_changes_nothing(monkeypatch):
    batch = make_batch(LENGTHS)
    plain, scores = outcome(make_model(), batch), make_model().full_sort_predict(batch)
    model = make_model(torch_compile=True)
    assert all(layer.attention is not pointwise_attention for layer in model.layers)
    torch.testing.assert_close(outcome(model, batch), plain)
    torch.testing.assert_close(model.full_sort_predict(batch), scores)
    monkeypatch.setitem(layers.MAX_SCORES, "cpu", 100)
    torch.testing.assert_close(outcome(model, batch), plain)


def test_without_a_compiler_one_line_says_so(toy, tmp_path):
    """In a process of its own: torch remembers a compiler that works."""
    cache = {"CXX": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    before = files()
    done = subprocess.run(
        [sys.executable, "-m", "recbole_hstu.cli", *command("--torch_compile=True")],
        check=False,
        env=os.environ | cache,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "torch_compile: nothing can be compiled for cpu here" in line
    assert "install a C++ compiler" in line
    assert files() == before
