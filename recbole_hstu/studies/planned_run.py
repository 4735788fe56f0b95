"""One training of a study: what is asked for, and what its configuration made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbole_hstu.config.config import Config
from recbole_hstu.records.same_terms import decisive_options
from recbole_hstu.support.errors import InputError


@dataclass(frozen=True)
class Variant:
    """A row of the table: a model (see `Config`), its options over those that all share, and
    `chosen` ones under them, such as a search left behind. `where` is the place in a file that
    names the row, for messages."""

    label: str
    model: str | type
    options: Mapping[str, Any]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """One training: `config` is what `quick_start.run` will make of the other fields; `settings` is
    a hash of it, from when the study was planned."""

    label: str
    model: str
    dataset: str
    config_files: tuple[str | Path, ...]
    options: Mapping[str, Any]
    config: Config
    settings: str

    @property
    def seed(self) -> int:
        return self.config["seed"]

    def __reduce__(self) -> tuple:
        """Another process makes the configuration anew: a model's class that is unpickled brings
        its module past `find_model`."""
        variant = Variant(self.label, self.config.reference, {})
        call = (variant, self.dataset, self.config_files, self.options, None)
        return _as_planned, (self.settings, call)

    def check_files(self) -> None:
        """Whether the configuration files still say what they said when the study was planned: a
        training reads them anew.

        Raises:
            InputError: they do not.
        """
        if not self.config_files:
            return
        now = Config(self.config.reference, self.dataset, self.config_files, self.options)
        if _hash_of_settings(now) != self.settings:
            files = ", ".join(map(str, self.config_files))
            raise InputError(
                f"{files}: changed while the study ran; undo the change and start the same command "
                "again, or start it as it is, and what was finished before runs anew"
            )


def _as_planned(settings: str, call: tuple) -> PlannedRun:
    return replace(planned_run(*call), settings=settings)


def _hash_of_settings(config: Config) -> str:
    settings = sorted(decisive_options(config.plain(), text=True).items())
    return hashlib.sha256(str(settings).encode()).hexdigest()


def planned_run(
    variant: Variant,
    dataset: str | None,
    config_files: Sequence[str | Path],
    options: Mapping[str, Any],
    seed: int | None,
) -> PlannedRun:
    """A row with a seed, None where its options have one or none is asked for.

    Raises:
        InputError: a bad configuration.
    """
    options = dict(options) if seed is None else {**options, "seed": seed}
    config = Config(variant.model or None, dataset, config_files, options)
    return PlannedRun(
        label=variant.label or config["model"],
        model=config["model"],
        dataset=config["dataset"],
        config_files=tuple(config_files),
        options=options,
        config=config,
        settings=_hash_of_settings(config),
    )
