"""recbole-hstu: arguments in, calls out. Bad input is one line and exit status 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from recbole_hstu import __version__
from recbole_hstu.errors import InputError
from recbole_hstu.yaml_values import parse_value

_USAGE = """\
recbole-hstu COMMAND [--key=value ...]

commands:
  run     train and test one model or several: --model=HSTU,SASRec --dataset=ml-100k
  encode  item texts to vectors, ahead of a run: --dataset=ml-100k --text_encoder=lsa

options of run:
  --model=NAME[,NAME]     HSTU, HSTU-large, and every RecBole model (SASRec, GRU4Rec, BPR, ...)
  --dataset=NAME          its atomic files lie in dataset/NAME; ml-100k needs no files
  --config_files="A B"    YAML files, later ones win
  --protocol=NAME         recbole (last but one item validates) or paper (no validation)
  --mask_seen=True        leave the items of the visible history out of the ranking
  --train_seconds=N       stop a training after the epoch that passes N seconds
  --resume=FILE           go on from the .last.pth of an interrupted run
  --key=value             any option of RecBole or of the model, read as YAML
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(usage=_USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(_USAGE)
        return 0 if arguments else 2
    if arguments == ["--version"]:
        sys.stdout.write(f"recbole-hstu {__version__}\n")
        return 0
    command = parser.parse_args(arguments[:1]).command
    try:
        return _COMMANDS[command](read_options(arguments[1:]))
    except InputError as error:
        sys.stderr.write(f"recbole-hstu: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("recbole-hstu: interrupted\n")
        return 130


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` and `--key value` as a mapping, values read as YAML; `--key` alone is True.

    Raises:
        InputError: something that is no option, or an option given twice.
    """
    options: dict[str, Any] = {}
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise InputError(f"'{argument}' is no option; write --key=value")
        if key in options:
            raise InputError(f"--{key} is given twice; give it once")
        if not equals and queue and not queue[0].startswith("--"):
            text, equals = queue.pop(0), "="
        options[key] = parse_value(key, text) if equals else True
    return options


def _run(options: dict[str, Any]) -> int:
    from recbole_hstu.experiments.compare import compare

    models = str(options.pop("model", "") or "")
    files = str(options.pop("config_files", "") or "").split()
    dataset = options.pop("dataset", None)
    table, failed = compare(
        models.split(","), str(dataset) if dataset is not None else None, files, options
    )
    sys.stdout.write(table)
    return 1 if failed else 0


def _encode(options: dict[str, Any]) -> int:
    from recbole_hstu.quick_start import encode

    files = str(options.pop("config_files", "") or "").split()
    model = options.pop("model", "HSTUText")
    sys.stdout.write(f"{encode(model, options.pop('dataset', None), files, options)}\n")
    return 0


_COMMANDS = {"run": _run, "encode": _encode}

if __name__ == "__main__":
    sys.exit(main())
