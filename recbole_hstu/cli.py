"""recbole-hstu: arguments in, calls out. Bad input is one line and exit status 2.

A command is a function here, its entry in `_COMMANDS`, and `properties/commands/NAME.yaml`, which
is its `--help`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from recbole_hstu import __version__
from recbole_hstu.config.command_line import read_options
from recbole_hstu.support.commands.command_help import command_help, overview
from recbole_hstu.support.commands.interrupts import sigterm_interrupts
from recbole_hstu.support.commands.invocation import command
from recbole_hstu.support.commands.terminal import with_output, write_to_any_terminal
from recbole_hstu.support.errors import (
    InputError,
    ProcessDied,
    in_a_line,
    is_no_way_in,
    packages_needed,
)
from recbole_hstu.support.near_names import near_names
from recbole_hstu.support.yaml_values import merge_yaml, merged


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 where a run or a process failed or the output
    cannot be written, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    return with_output(lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    # Idle threads of GNU's OpenMP spin for milliseconds before they sleep, on cores that others
    # want: a tenth of that makes a step faster (docs/performance.md). Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    write_to_any_terminal()
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    if name in ("", "-h", "--help"):
        sys.stdout.write(overview(_COMMANDS))
        return 0 if name else 2
    if name == "--version":
        sys.stdout.write(f"recbole-hstu {__version__}\n")
        return 0
    try:
        with sigterm_interrupts():
            return _do(name, arguments)
    except ModuleNotFoundError as error:
        if error.name != "recbole":
            raise
        mend = "pip install --no-deps recbole==1.2.1"
        sys.stderr.write(f"recbole-hstu: error: RecBole is not installed; {mend}\n")
        return 2
    except InputError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(5)  # most errors the first process has, too: torchrun then ends this one
        sys.stderr.write(f"recbole-hstu: error: {error}\n")
        return 2
    except OSError as error:
        if not is_no_way_in(error):
            raise
        what, why = error.filename or "a file of this run", in_a_line(error.strerror)
        sys.stderr.write(f"recbole-hstu: error: {what}: cannot be used ({why})\n")
        return 2
    except ProcessDied as error:
        sys.stderr.write(f"recbole-hstu: error: {error}\n")
        return 1
    except KeyboardInterrupt as interrupt:
        words = f"interrupted; {interrupt}" if str(interrupt) else "interrupted"
        sys.stderr.write(f"recbole-hstu: {words}\n")
        return getattr(interrupt, "status", 130)


def _do(name: str, arguments: Sequence[str]) -> int:
    if name not in _COMMANDS:
        raise InputError(f"{name}: no such command; {_nearest(name)}")
    if {"-h", "--help"} & set(arguments) and name != "convert":
        return _help(name, [a for a in arguments if a not in ("-h", "--help")])
    return _COMMANDS[name](arguments)


def _nearest(name: str) -> str:
    near = near_names(name, _COMMANDS)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(_COMMANDS)}"


def _help(name: str, arguments: Sequence[str]) -> int:
    """Of a command, with the models where it takes one; `--model=NAME`: of that model."""
    model = None
    if any(argument.startswith("--model") for argument in arguments):
        # The others take a file or a folder beside their options.
        named = name in ("run", "tune", "encode", "ids", "queries")
        options = arguments if named else [a for a in arguments if a.startswith("--")]
        model = read_options(options).get("model")
    if model:
        from recbole_hstu.config.option_tables import option_help

        sys.stdout.write("\n".join(option_help(one) for one in str(model).split(",")))
        return 0
    sys.stdout.write(command_help(name))
    if name in ("run", "tune"):
        from recbole_hstu.config.option_tables import model_families

        sys.stdout.write(f"\n{model_families()}")
    return 0


def _run(arguments: Sequence[str]) -> int:
    from recbole_hstu.distributed import processes
    from recbole_hstu.studies.compare import compare_models

    options = read_options(arguments)
    models = str(options.pop("model", "") or "")
    files = options.pop("config_files", [])
    dataset = options.pop("dataset", None)
    table, failed = compare_models(
        models.split(","), str(dataset) if dataset is not None else None, files, options
    )
    if processes.is_main():
        sys.stdout.write(table)
    return 1 if failed else 0


def _tune(arguments: Sequence[str]) -> int:
    from recbole_hstu.tuning.tune import tune

    options = read_options(arguments)
    files = options.pop("config_files", [])
    model = str(options.pop("model", "") or "")
    table, failed = tune(model, options.pop("dataset", None), files, options)
    sys.stdout.write(table)
    return 1 if failed else 0


def _evaluate(arguments: Sequence[str]) -> int:
    from recbole_hstu.quick_start import evaluate

    file, options = _named("evaluate", "CHECKPOINT", arguments)
    options = merged(merge_yaml(options.pop("config_files", [])), options)
    results = evaluate(file, config_dict=options)
    for part, name in (("valid", "valid_result"), ("test", "test_result")):
        for metric, value in (results[name] or {}).items():
            sys.stdout.write(f"{part:5}  {metric:20}  {value:.6f}\n")
    return 0


def _encode(arguments: Sequence[str]) -> int:
    from recbole_hstu.quick_start import encode

    options = read_options(arguments)
    files = options.pop("config_files", [])
    model = options.pop("model", "HSTUText")
    sys.stdout.write(f"{encode(model, options.pop('dataset', None), files, options)}\n")
    return 0


def _ids(arguments: Sequence[str]) -> int:
    from recbole_hstu.reports.text_tables import terminal_table
    from recbole_hstu.semantic_ids.make_ids import make_ids

    options = read_options(arguments)
    files = options.pop("config_files", [])
    path, note, worth = make_ids(options.pop("dataset", None), files, options)
    lines = [str(path), worth.summary, *([note] if note else []), terminal_table(*worth.table())]
    sys.stdout.write("\n".join(lines))
    return 0


def _queries(arguments: Sequence[str]) -> int:
    from recbole_hstu.queries.make_queries import make_queries

    options = read_options(arguments)
    files = options.pop("config_files", [])
    sys.stdout.write(f"{make_queries(options.pop('dataset', None), files, options)}\n")
    return 0


def _report(arguments: Sequence[str]) -> int:
    from recbole_hstu.reports.report import report

    folder, options = _named("report", "FOLDER", arguments)
    for path in report(folder, options):
        sys.stdout.write(f"{path}\n")
    return 0


def _reproduce(arguments: Sequence[str]) -> int:
    from recbole_hstu.studies.reproduce import reproduce

    name, options = _named("reproduce", "TABLE", arguments)
    files = options.pop("config_files", [])
    text, failed = reproduce(name, options.pop("dataset", None), files, options)
    sys.stdout.write(text)
    return 1 if failed else 0


def _recommend(arguments: Sequence[str]) -> int:
    from recbole_hstu.serving.files.recommend_file import recommend_file

    checkpoint, options = _named("recommend", "CHECKPOINT", arguments)
    sys.stdout.write(recommend_file(checkpoint, options))
    return 0


def _serve(arguments: Sequence[str]) -> int:
    with packages_needed("serve", "serve"):
        from recbole_hstu.service.serve import serve

    _named("serve", "CHECKPOINT", arguments[:1])
    files = list(takewhile(lambda one: not one.startswith("--"), arguments))
    serve(files, read_options(arguments[len(files) :]))
    return 0


def _export(arguments: Sequence[str]) -> int:
    from recbole_hstu.serving.export.bundle import export

    checkpoint, options = _named("export", "CHECKPOINT", arguments)
    sys.stdout.write(export(checkpoint, options))
    return 0


def _convert(arguments: Sequence[str]) -> int:
    from dataset_converters.cli import main as convert

    return convert(arguments, prog=command("convert"))


def _doctor(arguments: Sequence[str]) -> int:
    from recbole_hstu import doctor

    if arguments:
        raise InputError(f"doctor takes no options, found {arguments[0]}")
    return doctor.main()


def _named(name: str, what: str, arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The one argument that is no option, and the options after it."""
    if not arguments or arguments[0].startswith("--"):
        raise InputError(f"{name} {what}: {what} is missing; see {command(name)} --help")
    return arguments[0], read_options(arguments[1:])


_COMMANDS = {
    "convert": _convert,
    "run": _run,
    "tune": _tune,
    "evaluate": _evaluate,
    "encode": _encode,
    "ids": _ids,
    "queries": _queries,
    "report": _report,
    "reproduce": _reproduce,
    "recommend": _recommend,
    "serve": _serve,
    "export": _export,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
