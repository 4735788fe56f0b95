"""The command that the user at hand has: installed, or scripts of a checkout."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

_SCRIPTS = {"run": "run_recbole.py", "tune": "run_hyper.py"}


def command(name: str) -> str:
    """How this user types a command of `recbole-hstu`, for hints and for files that last.

    Who came by a script of the checkout has the scripts; who came by Python has what is installed.
    """
    came_by = Path(sys.argv[0]).name
    if came_by in _SCRIPTS.values() and name in _SCRIPTS:
        return f"python {_SCRIPTS[name]}"
    installed = Path(came_by).stem == "recbole-hstu" or (
        came_by not in (*_SCRIPTS.values(), "cli.py") and shutil.which("recbole-hstu")
    )
    return f"recbole-hstu {name}" if installed else f"python -m recbole_hstu.cli {name}"
