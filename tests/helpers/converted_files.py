"""Reading what a conversion wrote."""

from __future__ import annotations

import json
from pathlib import Path


def stats_of(folder: Path) -> dict:
    """The statistics a conversion wrote."""
    return json.loads((folder / f"{folder.name}.stats.json").read_text("utf-8"))
