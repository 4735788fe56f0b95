"""Where files lie that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """RECBOLE_HSTU_CACHE, else recbole_hstu in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("RECBOLE_HSTU_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recbole_hstu"
