"""The options that a YAML file declares: `key: default   # (kind, range) What it means.`

The kinds are `int`, `float`, `bool`, `str`, `path`, `list`, `list of two floats`, `dict` and
`one of a, b`. A range goes with numbers: `from 1`, `above 0`, `to 5`, `below 1`, or two of these.
`none` takes an inherited option back: the text then says what stands in its place. A key without
a kind takes any value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recbole_hstu.support.errors import InputError
from recbole_hstu.support.yaml_values import load_yaml

_LINE = re.compile(r"(\w+):\s+(?:[^#]*|'[^']*'\s+|\"[^\"]*\"\s+)#\s*(?:\(([^)]*)\)\s*)?(.*)")
_KIND = re.compile(
    r"(?P<base>none|int|float|bool|str|path|dict"
    r"|list(?: of (?P<length>two|three) (?P<entry>int|float|str)s)?"
    r"|one of (?P<choices>[^,]+(?:, [^,]+)*))"
    r"(?P<bounds>(?:,? (?:from|above|to|below) -?[\d.]+)*)"
)
_RANGE = re.compile(r"Range in \[([^\]]*)\]")
ANY = "any"
_LENGTHS = {"two": 2, "three": 3}
_BOUNDS = {
    "from": ("from {} on", lambda value, bound: value >= bound),
    "above": ("above {}", lambda value, bound: value > bound),
    "to": ("at most {}", lambda value, bound: value <= bound),
    "below": ("below {}", lambda value, bound: value < bound),
}
_TYPES: dict[str, Any] = {"bool": bool, "dict": Mapping, "list": (list, tuple)}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "path": "a text",
    "dict": "key: value pairs",
    "list": "a list",
}


@dataclass(frozen=True)
class Kind:
    """What values an option takes.

    Attributes:
        text: the kind as it is declared.
        base: `int`, `float`, `bool`, `str`, `path`, `dict`, `list`, `one of`, `none`, or `ANY`.
        entry: the base of a list's entries, and `length` their number, where they are declared.
        bounds: pairs such as ("from", 1).
    """

    text: str
    base: str
    choices: tuple[str, ...] = ()
    length: str | None = None
    entry: str | None = None
    bounds: tuple[tuple[str, float], ...] = ()

    def takes(self, value: Any) -> bool:
        """Whether a value is of this kind and in its range."""
        if self.base == ANY:
            return True
        if self.base == "list" and self.entry is not None and self.length is not None:
            right = isinstance(value, list | tuple) and len(value) == _LENGTHS[self.length]
            return right and all(self._fits(self.entry, part) for part in value)
        return self._fits(self.base, value)

    def _fits(self, base: str, value: Any) -> bool:
        if base in ("int", "float"):
            number = isinstance(value, int if base == "int" else int | float)
            number = number and not isinstance(value, bool) and -math.inf < value < math.inf
            return number and all(_BOUNDS[word][1](value, bound) for word, bound in self.bounds)
        if base == "one of":
            return value in self.choices
        return isinstance(value, _TYPES.get(base, str))

    def __str__(self) -> str:
        """What a message says that a value must be."""
        if self.base == "one of":
            return f"one of {', '.join(self.choices)}"
        what = _WORDS[self.base]
        if self.entry is not None:
            what = f"{self.length} {_WORDS[self.entry].split(' ', 1)[1]}s"
        said = [_BOUNDS[word][0].format(f"{bound:.10g}") for word, bound in self.bounds]
        return f"{what} {' and '.join(said)}" if said else what


@dataclass(frozen=True)
class Option:
    """One option of a model.

    Attributes:
        kind: None where any value will do.
        optional: whether None is a value: "not set".
    """

    name: str
    default: Any
    kind: Kind | None = None
    meaning: str = ""
    optional: bool = False

    @property
    def is_taken_back(self) -> bool:
        """Whether the model does not have this option of its base."""
        return self.kind is not None and self.kind.base == "none"

    def check(self, value: Any) -> None:
        """Refuse a value of another kind or out of range.

        Raises:
            InputError: the value is not what the file declares.
        """
        if self.kind is None or self.is_taken_back or (value is None and self.optional):
            return
        if not self.kind.takes(value):
            said = str(self.kind)
            if value in (math.inf, -math.inf):
                said = said.replace("a number", "a finite number", 1)
            raise InputError(f"{self.name}: {value!r} must be {said}")


def read_kind(text: str) -> Kind | None:
    """The kind that a declaration names, None if it names none."""
    match = _KIND.fullmatch(text.strip())
    if match is None:
        return None
    bounds = re.findall(r"(from|above|to|below) (-?[\d.]+)", match["bounds"])
    return Kind(
        text=text.strip(),
        base=match["base"].split(" of ")[0] if not match["choices"] else "one of",
        choices=tuple((match["choices"] or "").split(", ")),
        length=match["length"],
        entry=match["entry"],
        bounds=tuple((word, float(bound)) for word, bound in bounds),
    )


def read_declarations(path: Path, *, strict: bool = True) -> dict[str, Option]:
    """The options of a YAML file by name, in its order.

    Args:
        strict: a comment that begins with another bracket than a kind is an error; RecBole's own
            files have such (`(list or str)`), and their kinds are shown only.

    Raises:
        InputError: the file cannot be read, or declares a kind that there is not.
    """
    settings = load_yaml(path)
    comments = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            comments[match[1]] = (match[2], match[3].strip())
    options = {}
    for name, default in settings.items():
        declared, meaning = comments.get(name, (None, ""))
        kind = read_kind(declared) if declared else None
        if declared and not strict:
            kind = _kind_of_recbole(declared, meaning, default)
        elif declared and kind is None:
            raise InputError(
                f"{path}: {name}: ({declared}) is no kind; write one such as (int, from 1), "
                "(float, above 0), (bool), (str), (path), (list), (dict) or (one of a, b)"
            )
        options[name] = Option(name, default, kind, meaning, optional=default is None)
    return options


def _kind_of_recbole(declared: str, meaning: str, default: Any) -> Kind:
    """RecBole's files say `Range in [CE, BPR]` of some options; other kinds are shown only."""
    said = _RANGE.search(meaning)
    choices = re.findall(r"[A-Za-z_]\w*", said[1]) if said else []
    if len(choices) > 1 and default in choices:
        return Kind(f"one of {', '.join(choices)}", "one of", choices=tuple(choices))
    return Kind(declared, ANY)


def inherit(base: Mapping[str, Option], own: Mapping[str, Option]) -> dict[str, Option]:
    """The options of a class. A default alone leaves the base's kind and meaning as they are,
    unless the base has taken the option back."""
    merged = dict(base)
    for name, option in own.items():
        before = base.get(name)
        anew = before is not None and before.is_taken_back and option.default is not None
        if before is not None and option.kind is None and not anew:
            optional = before.optional or option.optional
            option = replace(before, default=option.default, optional=optional)
        merged[name] = option
    return merged
