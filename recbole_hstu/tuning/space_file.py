"""The file of a search space: YAML (`learning_rate: {loguniform: [1e-4, 1e-2]}`) or RecBole's lines
(`learning_rate loguniform -8,0`)."""

from __future__ import annotations

import ast
import logging
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from recbole_hstu.support.errors import InputError, reading
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.yaml_values import load_yaml
from recbole_hstu.tuning.space import KINDS, Parameter, Space, stored_value

logger = logging.getLogger(__name__)

_LINE_KINDS = KINDS[:4]  # RecBole's own
_SCALARS = (bool, int, float, str, type(None))
# A name and another word, as YAML, which has a colon, never begins.
_LINE = re.compile(r"\s*\w[\w.-]*\s+[^\s:#]+(\s|$)")


def read_space(file: str | Path) -> Space:
    """Read a search space.

    Args:
        file: its path, or the name of one in `properties/hyper`.

    Raises:
        InputError: no such file, or an entry that makes no sense; the message names both.
    """
    path = _find(file)
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    entries = [(i, line) for i, line in enumerate(lines, 1) if line.split("#")[0].strip()]
    if entries and _LINE.match(entries[0][1]):
        parameters = [_from_line(line, f"{path}, line {i}") for i, line in entries]
    else:
        parameters = [_from_yaml(path, key, entry) for key, entry in load_yaml(path).items()]
    names = [parameter.name for parameter in parameters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        wrong = f"{', '.join(twice)}: named twice" if twice else "names no option to search for"
        raise InputError(f"{path}: {wrong}")
    return Space(str(path), tuple(parameters))


def _find(file: str | Path) -> Path:
    own = PROPERTIES / "hyper"
    name = Path(file).name
    ours = str(file) in (name, f"properties/hyper/{name}")  # a path to nothing is none of them
    for path in (Path(file), *((own / name, own / f"{name}.yaml") if ours else ())):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in own.glob("*.yaml")))
    raise InputError(f"--params_file={file}: no such file; known by name are {known}")


def _from_yaml(path: Path, name: Any, entry: Any) -> Parameter:
    if isinstance(entry, list):
        return _from_list(str(name), entry, str(path))
    if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in KINDS:
        raise InputError(
            f"{path}: {name}: expected {{KIND: [...]}} with one of {', '.join(KINDS)}, "
            f"or a list; found {entry!r}"
        )
    kind, values = next(iter(entry.items()))
    if not isinstance(values, list):
        raise InputError(f"{path}: {name}: {kind}: expected a list, found {values!r}")
    return _parameter(str(name), kind, values, str(path))


def _from_list(name: str, values: list[Any], where: str) -> Parameter:
    """A bare list: two rising fractions are a range, anything else a choice; the log says which."""
    fractions = len(values) == 2 and all(isinstance(value, float) for value in values)
    if not fractions or not _rising(values):
        kind = "choice"
    else:
        low, high = values
        kind = "loguniform" if low > 0 and high >= 10 * low else "uniform"
    other = "choice" if kind != "choice" else "uniform"
    logger.info(
        *("%s: %s: %s is taken as %s; {%s: %s} would be another thing",),
        *(where, name, values, f"{{{kind}: {values}}}", other, values),
    )
    return _parameter(name, kind, values, where)


def _from_line(line: str, where: str) -> Parameter:
    """RecBole's `name kind values`; the bounds of its loguniform are natural logarithms."""
    name, kind, *rest = [*line.split(), "", ""]
    text = "".join(rest)  # as RecBole does
    if kind not in _LINE_KINDS or not text:
        raise InputError(
            f"{where}: expected `NAME KIND VALUES` with one of {', '.join(_LINE_KINDS)}, "
            f"found {line.strip()!r}"
        )
    if kind == "choice":
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            values = None
        if not isinstance(values, list | tuple):  # a set has no order
            raise InputError(f"{where}: {name}: {text} is no list of values")
        return _parameter(name, kind, list(values), where)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{where}: {name}: {text} is no list of numbers") from error
    if kind == "loguniform" and all(abs(number) < 700 for number in numbers):
        numbers = [math.exp(number) for number in numbers]
    if kind == "quniform" and len(numbers) == 3 and _few_steps(*numbers):
        # hyperopt: round(uniform(low, high) / q) * q
        low, high, step = (Decimal(str(number)) for number in numbers)
        low, high = ((n / step).quantize(Decimal(1), ROUND_HALF_EVEN) * step for n in (low, high))
        numbers = [float(low), float(high), float(step)]
    return _parameter(name, kind, numbers, where)


def _parameter(name: str, kind: str, values: list[Any], where: str) -> Parameter:
    """The parameter, if its values make sense."""
    if kind == "choice":
        odd = [value for value in values if not _is_plain(value)]
        if odd:
            raise InputError(
                f"{where}: {name}: choice: {odd[0]!r} is no plain value; use numbers, texts, True, "
                "False, None, and lists and mappings of them"
            )
        labels = [stored_value(value) for value in values]
        if not labels or len(set(labels)) != len(labels):
            raise InputError(f"{where}: {name}: choice: expected different values, found {values}")
        return Parameter(name, kind, tuple(values))
    if kind == "int" and len(values) == 2:
        values = [*values, 1]
    expected, fits = _EXPECTED[kind]
    kinds = int if kind == "int" else (int, float)
    numbers = all(isinstance(v, kinds) and not isinstance(v, bool) for v in values)
    if not numbers or not all(map(math.isfinite, values)) or not fits(values):
        raise InputError(f"{where}: {name}: {kind}: expected {expected}, found {values}")
    return Parameter(name, kind, tuple(values if kind == "int" else map(float, values)))


def _rising(values: list[Any]) -> bool:
    return len(values) == 2 and values[0] < values[1]


def _few_steps(low: float, high: float, step: float) -> bool:
    """Whether `Decimal`, which has 28 digits, can count the steps."""
    if not all(map(math.isfinite, (low, high, step))) or step <= 0:
        return False
    return max(abs(low), abs(high)) / step < 1e9


def _stepped(values: list[Any]) -> bool:
    if len(values) != 3 or not values[0] < values[1] or not _few_steps(*values):
        return False
    low, high, step = (Decimal(str(value)) for value in values)
    return (high - low) % step == 0


def _multiples(values: list[Any]) -> bool:
    return _stepped(values) and Decimal(str(values[0])) % Decimal(str(values[2])) == 0


_EXPECTED: dict[str, tuple[str, Callable[[list[Any]], bool]]] = {
    "uniform": ("[low, high]", _rising),
    "loguniform": ("[low, high] with 0 < low < high", lambda v: _rising(v) and v[0] > 0),
    "quniform": ("[low, high, q], low and high multiples of q", _multiples),
    "int": ("whole numbers [low, high] or [low, high, step], whole steps apart", _stepped),
}


def _is_plain(value: Any) -> bool:
    """Whether YAML and JSON can say it."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values())) and all(type(k) in _SCALARS for k in value)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in _SCALARS
