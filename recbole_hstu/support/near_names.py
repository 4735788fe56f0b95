"""Which name may be meant by one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_names(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """The `n` known names most like `name`, whatever their case; fewer where others are less alike
    than `cutoff` (from 0 on, at 0 there are always `n`)."""
    written = {one.lower(): one for one in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.lower(), written, n=n, cutoff=cutoff)
    return [written[one] for one in near]
