"""What a search may vary: the options, the values of each, and their combinations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from recbole_hstu.support.errors import InputError

KINDS = ("choice", "uniform", "loguniform", "quniform", "int")


@dataclass(frozen=True)
class Parameter:
    """One option to search for.

    Attributes:
        kind: one of `KINDS`.
        values: the choices, or (low, high), or (low, high, step) of `quniform` and `int`.
    """

    name: str
    kind: str
    values: tuple[Any, ...]

    def count(self) -> int | None:
        """How many values it can take, None where there is no end to them."""
        if self.kind == "choice":
            return len(self.values)
        if self.kind in ("uniform", "loguniform"):
            return None
        low, high, step = (Decimal(str(value)) for value in self.values)
        return int((high - low) / step) + 1

    def point(self, place: int) -> Any:
        """One of them, from 0 on."""
        if self.kind == "choice":
            return self.values[place]
        low, _, step = (Decimal(str(value)) for value in self.values)
        return (int if self.kind == "int" else float)(low + place * step)

    def stored(self, value: Any) -> Any:
        """What Optuna stores of one of them."""
        return stored_value(value) if self.kind == "choice" else value

    def extremes(self) -> list[Any]:
        """The choices, or the two bounds."""
        return list(self.values if self.kind == "choice" else self.values[:2])

    def contains(self, value: Any) -> bool:
        """Whether it is one of the values that it can take."""
        if self.kind == "choice":
            return value in self.values
        low, high, *step = self.values
        if not isinstance(value, int | float) or not low <= value <= high:
            return False
        return not step or value == self.point(round((value - low) / step[0]))

    def suggest(self, trial: Any) -> Any:
        """The value that an Optuna trial has or gets."""
        if self.kind == "choice":
            labels = [stored_value(value) for value in self.values]
            return self.values[labels.index(trial.suggest_categorical(self.name, labels))]
        low, high, *step = self.values
        if self.kind == "int":
            return trial.suggest_int(self.name, low, high, step=step[0])
        if self.kind == "quniform":
            return trial.suggest_float(self.name, low, high, step=step[0])
        return trial.suggest_float(self.name, low, high, log=self.kind == "loguniform")


@dataclass(frozen=True)
class Space:
    """The options to search for, in the order of the file that names them."""

    file: str
    parameters: tuple[Parameter, ...]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The options of an Optuna trial."""
        return {parameter.name: parameter.suggest(trial) for parameter in self.parameters}

    def at(self, options: Any) -> dict[str, Any]:
        """The point with a model's own options, as Optuna names it.

        Raises:
            InputError: one of them lies outside.
        """
        point = {}
        for parameter in self.parameters:
            value = options[parameter.name]
            if not parameter.contains(value):
                raise InputError(
                    f"{self.file}: {parameter.name}: --defaults_first=True begins with the model's "
                    f"own {value!r}, which is not in the space; add it, or leave the option out"
                )
            point[parameter.name] = parameter.stored(value)
        return point

    def grid_size(self) -> int:
        """How many combinations there are.

        Raises:
            InputError: an option has no finite set of values.
        """
        size = 1
        for parameter in self.parameters:
            count = parameter.count()
            if count is None:
                raise InputError(
                    f"{self.file}: {parameter.name}: --algo=exhaustive needs finite sets, and "
                    f"{parameter.kind} is none; use choice, int or quniform, or another --algo"
                )
            size *= count
        return size

    def combination(self, number: int) -> dict[str, Any]:
        """One of the combinations as Optuna names it, from 0 on; the last option varies fastest.

        Made one by one: there may be far more than a search has trials.
        """
        point = {}
        for parameter in reversed(self.parameters):
            count = parameter.count()
            assert count  # see `grid_size`
            number, place = divmod(number, count)
            point[parameter.name] = parameter.stored(parameter.point(place))
        return dict(reversed(point.items()))

    def plain(self) -> dict[str, Any]:
        """The space as its YAML says it."""
        return {p.name: {p.kind: list(p.values)} for p in self.parameters}


def stored_value(value: Any) -> Any:
    """What Optuna stores of a choice: plain values themselves, lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
