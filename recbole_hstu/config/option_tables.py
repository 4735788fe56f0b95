"""Tables of options: a model's for the terminal, all of ours for docs/options.md, which

    python -m recbole_hstu.config.option_tables > docs/options.md

writes anew.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_hstu.config.model_registry import OWN_MODELS, find_model, recbole_models
from recbole_hstu.config.options import Option
from recbole_hstu.config.properties import (
    PROPERTIES,
    RECBOLE_PROPERTIES,
    SettingsFile,
    declared_options,
    model_files,
    named_configurations,
    settings_file,
)
from recbole_hstu.support.commands.command_help import columns

_WIDTH, _INDENT = 100, 34
_ABOUT = """\
# Options

Written by `python -m recbole_hstu.config.option_tables > docs/options.md` from the YAML files in
`properties/`, where kinds, ranges, defaults and meanings stand. All options of one model, RecBole's
included: `recbole-hstu run --model=HSTU --help`.
"""


def option_help(model: str) -> str:
    """What `--model=NAME --help` prints: every option with its default for this model.

    Raises:
        InputError: there is no such model.
    """
    of_model = model_files(find_model(model), model)
    recbole = [RECBOLE_PROPERTIES / "overall.yaml", RECBOLE_PROPERTIES / "dataset" / "sample.yaml"]
    of_recbole = [settings_file(path, strict=False) for path in recbole]
    ours = settings_file(PROPERTIES / "overall.yaml")
    protocol = settings_file(PROPERTIES / "protocol" / f"{ours.settings['protocol']}.yaml")
    options = declared_options([*of_recbole, ours, protocol, *of_model])
    shared = {name for file in of_recbole for name in file.options} - set(ours.options)
    groups = {
        f"Options of {model}, with their defaults": [
            name for name in declared_options(of_model) if name not in shared | set(ours.options)
        ],
        "Of every model, from recbole_hstu": list(ours.options),
        "Of every model, from RecBole": [name for name in options if name in shared],
    }
    parts = [f"{title}:\n\n{_lines(options[n] for n in names)}" for title, names in groups.items()]
    return "\n".join([*parts, *(_elsewhere(file) for file in of_model)])


def model_families() -> str:
    """All models by family, ours first."""
    families = {"of this package": sorted({*OWN_MODELS, *named_configurations()})}
    for name, module in recbole_models().items():
        family = module.split(".")[-2].removesuffix("_recommender").replace("_", " ")
        families.setdefault(f"RecBole's, {family}", []).append(name)
    listed = {title: ", ".join(names) for title, names in families.items()}
    return "models:\n" + columns(listed, indent=_INDENT)


def options_page() -> str:
    """docs/options.md: a table for each file of `properties/model`, and what every model has."""
    overall = settings_file(PROPERTIES / "overall.yaml")
    parts = [_ABOUT, "## Every model, RecBole's too\n", _table(overall)]
    named = {
        Path(file.place).stem: file
        for name in (*OWN_MODELS, *named_configurations())
        for file in model_files(find_model(name), name)
        if Path(file.place).is_relative_to(PROPERTIES)
    }
    for name, file in named.items():
        about = Path(file.place).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        parts += [f"## {name}\n", f"{about}\n", _table(file), _elsewhere(file)]
    commands = {
        f"ids --method={path.stem}": path for path in sorted((PROPERTIES / "ids").glob("*.yaml"))
    }
    for command, path in {**commands, "queries": PROPERTIES / "queries" / "llm.yaml"}.items():
        about = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        parts += [f"## recbole-hstu {command}\n", f"{about}\n", _table(settings_file(path))]
    return "\n".join(parts).rstrip() + "\n"


def _lines(options: Iterable[Option]) -> str:
    listed = {
        f"--{option.name}={_shown(option.default)}": (
            (f"({option.kind.text}) " if option.kind else "") + option.meaning
        )
        for option in options
        if not option.is_taken_back
    }
    return columns(listed, indent=_INDENT)


def _table(file: SettingsFile) -> str:
    rows = ["| option | default | takes | |", "|---|---|---|---|"]
    for option in file.options.values():
        kind = "not an option here" if option.is_taken_back else option.kind and option.kind.text
        rows.append(
            f"| `{option.name}` | `{_shown(option.default)}` | {kind or ''} | {option.meaning} |"
        )
    return "\n".join(rows) + "\n"


def _elsewhere(file: SettingsFile) -> str:
    """The defaults that a file has for some data sets."""
    lines = [
        f"For {dataset}: {', '.join(f'{key} {_shown(value)}' for key, value in values.items())}."
        for dataset, values in file.settings.get("dataset_settings", {}).items()
    ]
    return "".join(f"{textwrap.fill(line, _WIDTH)}\n\n" for line in lines)


def _shown(value: Any) -> str:
    if value is None:
        return "~"
    return repr(value) if isinstance(value, str) and value != value.strip() else str(value)


if __name__ == "__main__":
    sys.stdout.write(options_page())
