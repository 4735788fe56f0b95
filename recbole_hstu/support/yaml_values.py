"""YAML as RecBole's users write it: `1e-3` is a number, and nothing is ever evaluated."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from recbole_hstu.support.errors import InputError, in_a_line, reading

# Options whose value is a name, a path or a sentence, which may look like a number or a time.
_NAMES = frozenset(
    {
        *("model", "dataset", "protocol", "resume", "encoding", "model_class"),
        *("compare", "baseline", "storage", "out", "text_model", "text_revision"),
        *("users", "histories", "candidates", "exclude", "new_items", "new_events"),
        *("record", "licence", "semantic_ids", "quantiser", "category_field"),
        *("llm", "adapter", "instruction", "queries", "host", "on_unknown", "stand_in"),
    }
)
_NAME_ENDINGS = (
    *("_dir", "_path", "_file", "_name", "_url", "_project"),
    *("_FIELD", "_PREFIX", "_SUFFIX"),
)
_STRING, _MERGE, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "merge", "null"))
_NO_STRING = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool"))


def is_name(key: str) -> bool:
    """Whether the value of an option is a name or a path, whatever it looks like."""
    return key in _NAMES or key.endswith(_NAME_ENDINGS)


class _Twice(yaml.constructor.ConstructorError):
    """A key that a mapping has twice."""


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads floats without a dot (`1e-3`), as RecBole's does.

    Keys are text, and so are the values that name something (`is_name`). A key that a mapping has
    twice is an error.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        found: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in found:
                    raise _Twice(None, None, f"{key.value!r} stands there twice", key.start_mark)
                found.add(key.value)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, value in node.value:
            if key.tag in _NO_STRING or key.tag == _NULL:
                key.tag = _STRING
            if is_name(str(key.value)) and value.tag in _NO_STRING:
                value.tag = _STRING
        return super().construct_mapping(node, deep)


# A value such as 2024-13-01 is a name here, never a date.
YamlLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# So are 1:30 and 1:30.5, which PyYAML reads as 90 seconds; the first resolver that fits decides.
for _digit in "-+0123456789":
    YamlLoader.yaml_implicit_resolvers[_digit].insert(
        0, (_STRING, re.compile(r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"))
    )
YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@lru_cache(maxsize=64)
def _parsed(text: str) -> Any:
    """A configuration reads some eight files, and a search or a study the same ones every time."""
    return yaml.load(text, Loader=YamlLoader)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file.

    Raises:
        InputError: the file is missing, is not YAML or is not a mapping.
    """
    with reading(path):
        text = Path(path).read_text(encoding="utf-8")
    try:
        content = copy.deepcopy(_parsed(text))
    except RecursionError as error:
        raise InputError(f"{path}: not YAML: too many brackets in each other") from error
    except (yaml.YAMLError, ValueError) as error:  # the second of 0x_
        raise InputError(f"{path}: not YAML: {in_a_line(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `key: value` lines, found a {type(content).__name__}")
    return content


def list_of_files(files: str | Path | Iterable[str | Path] | None) -> list[str | Path]:
    """`config_file_list` as users give it: some files, one by itself, or None."""
    return [files] if isinstance(files, str | Path) else list(files or ())


def merge_yaml(files: str | Path | Iterable[str | Path] | None) -> dict[str, Any]:
    """The mappings of several YAML files in one, see `merged`.

    Raises:
        InputError: see `load_yaml`.
    """
    return merged(*map(load_yaml, list_of_files(files)))


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Several layers of options in one: of two values of an option the later counts, and so for
    each part of `eval_args`."""
    found: dict[str, Any] = {}
    for layer in layers:
        before, now = (given.get("eval_args") for given in (found, layer))
        found |= layer
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found["eval_args"] = {**before, **now}
    return found


def parse_value(key: str, text: str) -> Any:
    """A value given as text, read as YAML; what is no YAML stays text.

    Intervals such as `[5,inf)`, separators, names and paths stay text (quotes around a name are
    taken off), and `None` means null as in Python.
    """
    if key.endswith(("_interval", "_separator")) and key != "val_interval":
        return text
    if text in ("None", ""):
        return None
    if is_name(key) and text not in ("~", "null") and text[0] + text[-1] not in ("''", '""'):
        return text
    try:
        return yaml.load(text, Loader=YamlLoader)
    except RecursionError as error:
        raise InputError(f"{key}: too many brackets in each other") from error
    except _Twice as error:
        raise InputError(f"{key}: {error.problem}") from error
    except (yaml.YAMLError, ValueError):  # the second of what begins as a number, such as 0x_
        return text


def comma_separated(option: str, value: Any) -> list[str]:
    """The names that an option lists, as `A,B` or as a list of YAML; none where it is not given.

    Raises:
        InputError: an empty name.
    """
    if value is None or value == "":
        return []
    names = [str(part) for part in (value if isinstance(value, list) else str(value).split(","))]
    if "" in names:
        raise InputError(
            f"--{option}={','.join(names)}: an empty name beside a comma; fill it or take it out"
        )
    return names
