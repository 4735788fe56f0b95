"""A measurement in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_own_process(*options: str, cwd: str | Path | None = None) -> Any:
    """What the running benchmark, called with these options, writes as JSON in its last line.

    Raises:
        SystemExit: it fails; with what it had to say.
    """
    command = [sys.executable, str(Path(sys.argv[0]).absolute()), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(options)}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
