"""schemathesis against the schema of a running service."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def test_schemathesis_finds_nothing(service, tmp_path):
    """A few cases an operation; docs/serving.md says how to run it for longer."""
    config = Path(__file__).with_name("schemathesis.toml")
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run"]
    options = ["--phases=fuzzing", "--max-examples=8", "--seed=1", "--generation-database=none"]
    done = subprocess.run(
        [*command, f"{service.url}/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "8 passed" in done.stdout, done.stdout[-4000:]
