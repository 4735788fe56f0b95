"""YAML as RecBole's users write it: `1e-3` is a number, and nothing is ever evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_hstu.support.errors import InputError


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads floats without a dot (`1e-3`), as RecBole's does."""


# A value such as 2024-13-01 is a name here, never a date.
YamlLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file.

    Raises:
        InputError: the file is missing, is not YAML or is not a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=YamlLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `key: value` lines, found a {type(content).__name__}")
    return content


def parse_value(key: str, text: str) -> Any:
    """A value given as text, read as YAML; what is no YAML stays text.

    Intervals such as `[5,inf)` and separators stay text, and `None` means null as in Python.
    """
    if key.endswith(("_interval", "_separator")):
        return text
    if text in ("None", ""):
        return None
    try:
        return yaml.load(text, Loader=YamlLoader)
    except yaml.YAMLError:
        return text


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
