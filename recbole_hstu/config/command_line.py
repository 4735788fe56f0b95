"""`--key=value ...` -> options, values read as YAML."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.yaml_values import is_name, parse_value


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` and `--key value` as a mapping, values read as YAML; `--key` alone is True.

    `--config_files` is a list of paths, and may be given more than once.

    Raises:
        InputError: something that is no option, an option given twice, a value that is missing.
    """
    options: dict[str, Any] = {}
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise InputError(f"'{argument}' is no option; write --key=value")
        if key in options and key != "config_files":
            raise InputError(f"--{key} is given twice; give it once")
        if not equals and queue and not queue[0].startswith("--"):
            text, equals = queue.pop(0), "="
        if equals and not text:
            raise InputError(f"--{key}= is empty; give it a value, or leave it out")
        if not equals and (is_name(key) or key == "config_files"):
            raise InputError(f"--{key} names nothing; write --{key}=NAME")
        if key == "config_files":
            options[key] = [*options.get(key, []), *_paths(text)]
        else:
            options[key] = parse_value(key, text) if equals else True
    return options


def _paths(text: str) -> list[str]:
    """One path, several with spaces between them (a quoted one may hold spaces), a YAML list."""
    if Path(text).is_file():
        return [text]
    try:
        if text.startswith("["):
            paths = yaml.load(text, Loader=yaml.BaseLoader)  # all text
        else:
            paths = shlex.split(text) if {"'", '"'} & set(text) else text.split()
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"--config_files={text}: not a list of paths ({in_a_line(error)})"
        ) from error
    if not all(isinstance(path, str) for path in paths):
        raise InputError(f"--config_files={text}: not a list of paths")
    return paths
