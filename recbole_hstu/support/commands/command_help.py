"""What `--help` says of the commands: `properties/commands/NAME.yaml`, a file a command."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.yaml_values import load_yaml

_WIDTH, _INDENT = 100, 30


def overview(names: Iterable[str]) -> str:
    """A line for each command, in the order given."""
    listed = {name: about(name)["about"] for name in names}
    return (
        "recbole-hstu COMMAND [--key=value ...]\n\ncommands:\n"
        + columns(listed, indent=14)
        + "\nrecbole-hstu COMMAND --help: its examples and options, and the models.\n"
        "recbole-hstu run --model=HSTU --help: the options of a model.\n"
    )


def about(name: str) -> dict[str, Any]:
    """What is declared of a command: `about`, and `usage`, `examples`, `options`."""
    return load_yaml(PROPERTIES / "commands" / f"{name}.yaml")


def command_help(name: str) -> str:
    """Usage, examples and options of one command."""
    said = about(name)
    typed = command(name)
    usage = said["usage"].partition(" ")[2]
    parts = [f"{typed} {usage}".rstrip() + f"\n\n{said['about']}\n"]
    examples = said.get("examples", {})
    if examples:
        lines = [f"  {typed} {line}\n      {meaning}\n" for line, meaning in examples.items()]
        parts.append("examples:\n" + "".join(lines))
    if "options" in said:
        parts.append("options:\n" + columns(said["options"], indent=_INDENT))
    return "\n".join(parts)


def columns(listed: Mapping[str, str], indent: int) -> str:
    """Names at the left, their meanings beside them, folded."""
    lines = []
    for name, meaning in listed.items():
        folded = textwrap.wrap(meaning, _WIDTH - indent) or [""]
        short = len(name) + 4 <= indent
        first = f"  {name}".ljust(indent) if short else f"  {name}\n{' ' * indent}"
        lines.append((first + f"\n{' ' * indent}".join(folded)).rstrip())
    return "\n".join(lines) + "\n"
