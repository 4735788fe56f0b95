"""Values that every format knows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np


def python_value(value: Any) -> Any:
    """A copy of a value, numpy's numbers and lists of them in it as those of Python. A larger
    array, which only a model of one's own can mean, stays."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim < 2):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: python_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [python_value(item) for item in value]
    return value


def plain_value(value: Any) -> Any:
    """A value as YAML, JSON and `torch.load(weights_only=True)` know it; a path is text."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain_value(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    if value is None or type(value) in (bool, int, float, str):
        return value
    return value.item() if isinstance(value, np.generic) else str(value)
