"""The YAML file of `--config`: what stands there is taken as it stands, or refused with its line.

The only words with a meaning of their own are those for true and false, where an option is nothing
else, and those for nothing (`null`, `~`, or no value): an option that is not given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from dataset_converters.errors import ConversionError

_KIND = "tag:yaml.org,2002:"
_LISTS = ("text",)
_Pair = tuple[yaml.ScalarNode, yaml.Node]


def arguments_of(path: Path, known: Collection[str], flags: Collection[str]) -> list[str]:
    """The options of a YAML file as arguments of the command line, for the same checks.

    Args:
        known: the names of all options.
        flags: those that take true or false.

    Raises:
        ConversionError: the file cannot be read, an option is unknown or stands there twice, a
            value is of the wrong kind.
    """
    arguments: list[str] = []
    for key, value in _pairs(path, _root(path)):
        name = key.value
        if name not in known:
            raise _wrong(path, key, f"unknown option {name}")
        if value.tag == _KIND + "null":
            continue
        if name in flags:
            arguments += [f"--{name}"] if _is_true(path, name, value) else []
        elif name in _LISTS and not isinstance(value, yaml.ScalarNode):
            arguments += [f"--{name}", *_entries(path, value)]
        else:
            arguments.append(f"--{name}={_text(path, value, f'{name}: takes one value')}")
    return arguments


def _root(path: Path) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConversionError(f"{path}: cannot be read as YAML ({reason})") from error
    return root


def _pairs(path: Path, node: yaml.Node | None) -> Iterator[_Pair]:
    """The keys of a mapping, each there once, with their values."""
    if not isinstance(node, yaml.MappingNode):
        raise ConversionError(f"{path}: expected lines such as 'interactions: orders.csv'")
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = _text(path, key, "expected a name before the colon")
        if name in lines:
            raise _wrong(
                path, key, f"'{name}' stands on line {lines[name]} already; leave one of them out"
            )
        lines[name] = _line(key)
        yield key, value


def _entries(path: Path, node: yaml.Node) -> Iterator[str]:
    """The text columns: a list of them, or fields with their columns."""
    missing = "text: expected the name of a column"
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            column = _text(path, value, missing)
            if column.startswith("-"):
                named = f"text: give '{column}' a name, as in {{title: '{column}'}}"
                raise _wrong(path, value, named)
            yield column
        return
    for key, value in _pairs(path, node):
        if "=" in key.value or key.value.startswith("-"):
            raise _wrong(path, key, f"text: '{key.value}' cannot be the name of a field")
        yield f"{key.value}={_text(path, value, missing)}"


def _text(path: Path, node: yaml.Node, otherwise: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == _KIND + "null":
        raise _wrong(path, node, otherwise)
    return str(node.value)


def _is_true(path: Path, name: str, node: yaml.Node) -> bool:
    known = yaml.SafeLoader.bool_values.get(str(node.value).lower())
    if node.tag != _KIND + "bool" or known is None:
        raise _wrong(path, node, f"{name}: expected true or false")
    return known


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _wrong(path: Path, node: yaml.Node, what: str) -> ConversionError:
    return ConversionError(f"{path}: line {_line(node)}: {what}")
