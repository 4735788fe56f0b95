"""recbole-hstu: arguments in, calls out. Bad input is one line and exit status 2."""

from __future__ import annotations

import argparse
import codecs
import os
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from recbole_hstu import __version__
from recbole_hstu.support.errors import InputError, ProcessDied, in_a_line, packages_needed
from recbole_hstu.support.yaml_values import parse_value

_USAGE = """\
recbole-hstu COMMAND [--key=value ...]

commands:
  run         train and test one model or several: --model=HSTU,SASRec --dataset=ml-100k
  tune        search for options: --model=HSTU --dataset=ml-100k --params_file=HSTU
  evaluate    the metrics of a checkpoint: evaluate saved/NAME.pth --protocol=paper
  encode      item texts to vectors, ahead of a run: --dataset=ml-100k --text_encoder=lsa
  report      tables, plots and an HTML page: report results/ml-100k-recbole --baseline=SASRec
  reproduce   a paper's table, ours beside theirs: reproduce table2 --dataset=musical_instruments
  recommend   a trained model's lists: recommend CHECKPOINT --all_users --out=recs.csv --at=TIME
  serve       a trained model over HTTP, and a page: serve CHECKPOINT [CHECKPOINT] --port=8000
  doctor      what works in this environment, what does not, and the line that mends it

options of run:
  --model=NAME[,NAME]     HSTU, HSTU-large, and every RecBole model (SASRec, GRU4Rec, BPR, ...);
                          package.module:Class is a model of your own (docs/extending.md)
  --model=NAME --help     every option of a model, its kind, range and default
  --dataset=NAME          its atomic files lie in dataset/NAME; ml-100k needs no files
  --config_files="A B"    YAML files, later ones win; may be given twice, or as a list ["A B", C]
  --protocol=NAME         recbole (last but one item validates) or paper (no validation)
  --mask_seen=True        leave the items of the visible history out of the ranking
  --nproc=N               share a training among N processes, a GPU each, or CPU cores
  --train_seconds=N       stop a training after the epoch that passes N seconds
  --resume=FILE           go on from the .last.pth of an interrupted run
  --seeds=1,2,3           every model once with each seed
  --compare=FILE          in place of --model: rows of the table with options of their own
  --baseline=NAME[,NAME]  gains over the first, significance against the best of them
  --results_dir=FOLDER    of several runs; finished ones there are not repeated
  --key=value             any option of RecBole or of the model, read as YAML, names as they are

options of tune, beside those of run:
  --params_file=FILE      the search space: YAML, RecBole's lines, or the name of one that ships
  --algo=NAME             bayes, random, halving (random, bad trials stop early), exhaustive
  --max_trials=N          finished trials over all invocations; 20, or the whole grid
  --jobs=N                processes; more machines: the same command on a shared folder
  --early_stop=N          stop after N trials without a better one
  --min_epochs, --reduction_factor     of halving
  --results_dir, --output_file, --storage=sqlite:///FILE, --study_name

options of evaluate: those of run, over what the checkpoint was trained with

options of report:
  --out=FOLDER            FOLDER/report by default
  --baseline, --metrics=hit@10,mrr, --plot_metric=ndcg@10

options of recommend:
  --users=FILE            tokens, one a line; or --all_users of the data set
  --histories=FILE        in place of a data set: .csv, .parquet (user, item, time, at) or .jsonl
  --k=20 --out=FILE       how many items; .csv, .jsonl or .parquet
  --at=TIME               of the request, in the unit of the data set; HSTU needs it
  --dataset=FOLDER        of the atomic files, where they are not at their recorded place
  --exclude_seen=False --candidates=FILE --exclude=FILE    what may be recommended
  --on_unknown=raise      refuse events of unknown items; they are left out and counted

options of serve:
  --host=127.0.0.1 --port=8000      a token in RECBOLE_HSTU_TOKEN is asked of clients
  --dataset=FOLDER        of the .item file with the titles, where it is not at its recorded place
  --cache_mb=256          for the histories of users, a model
  --max_waiting=64        requests at work at once; the next ones are answered by 429

options of reproduce: those of run; --epochs=N or --limit_users=N make it a rehearsal,
  --model=SASRec,HSTU runs some of the paper's rows
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, 1 where a run or a process failed, 2 for bad
    input, 130 after Ctrl-C."""
    # Idle threads of GNU's OpenMP spin for milliseconds before they sleep, on cores that others
    # want: a tenth of that makes a step faster (docs/performance.md). Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    parser = argparse.ArgumentParser(usage=_USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    arguments = list(sys.argv[1:] if argv is None else argv)
    _write_to_any_terminal()
    if not arguments:
        sys.stdout.write(_USAGE)
        return 2
    wants_help = bool({"-h", "--help"} & set(arguments))
    if wants_help and not any(a.startswith("--model") for a in arguments):
        sys.stdout.write(_USAGE)
        return 0
    if arguments == ["--version"]:
        sys.stdout.write(f"recbole-hstu {__version__}\n")
        return 0
    command = parser.parse_args(arguments[:1]).command
    # RecBole calls what newer releases of torch and pandas announce the end of.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    try:
        return (_help if wants_help else _COMMANDS[command])(arguments[1:])
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
    except ProcessDied as error:
        sys.stderr.write(f"recbole-hstu: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("recbole-hstu: interrupted\n")
        return 130


def _write_to_any_terminal() -> None:
    """What the terminal cannot show appears as something else, in place of an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors in ("strict", "surrogateescape"):
        codecs.register_error("recbole_hstu", _shown_instead)
        reconfigure(errors="recbole_hstu")


def _shown_instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAINER.get(character, "?") for character in text), error.end


# Of the tables: better and worse than the baseline, mean and deviation.
_PLAINER = {"†": "+", "‡": "-", "±": "~"}


def read_options(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` and `--key value` as a mapping, values read as YAML; `--key` alone is True.

    `--config_files` is a list of paths, and may be given more than once.

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
        if key in options and key != "config_files":
            raise InputError(f"--{key} is given twice; give it once")
        if not equals and queue and not queue[0].startswith("--"):
            text, equals = queue.pop(0), "="
        if key == "config_files":
            options[key] = [*options.get(key, []), *_paths(text)]
        else:
            options[key] = parse_value(key, text) if equals else True
    return options


def _paths(text: str) -> list[str]:
    """One path, several with spaces between them (a quoted one may hold spaces), a YAML list."""
    if Path(text).is_file():
        return [text]
    try:
        if text.startswith("["):
            paths = yaml.load(text, Loader=yaml.BaseLoader)  # all text
        else:
            paths = shlex.split(text) if {"'", '"'} & set(text) else text.split()
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"--config_files={text}: not a list of paths ({in_a_line(error)})"
        ) from error
    if not all(isinstance(path, str) for path in paths):
        raise InputError(f"--config_files={text}: not a list of paths")
    return paths


def _help(arguments: Sequence[str]) -> int:
    """The options of the models that `--model` names."""
    from recbole_hstu.config.option_tables import option_help

    options = read_options([a for a in arguments if a not in ("-h", "--help")])
    sys.stdout.write("\n".join(option_help(name) for name in str(options["model"]).split(",")))
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
    from recbole_hstu.serving.recommend_file import recommend_file

    checkpoint, options = _named("recommend", "CHECKPOINT", arguments)
    sys.stdout.write(recommend_file(checkpoint, options))
    return 0


def _serve(arguments: Sequence[str]) -> int:
    with packages_needed("serve"):
        from recbole_hstu.service.serve import serve

    _named("serve", "CHECKPOINT", arguments[:1])
    files = list(takewhile(lambda one: not one.startswith("--"), arguments))
    serve(files, read_options(arguments[len(files) :]))
    return 0


def _doctor(arguments: Sequence[str]) -> int:
    from recbole_hstu import doctor

    if arguments:
        raise InputError(f"doctor takes no options, found {arguments[0]}")
    return doctor.main()


def _named(command: str, what: str, arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The one argument that is no option, and the options after it."""
    if not arguments or arguments[0].startswith("--"):
        raise InputError(f"{command} {what}: {what} is missing; see recbole-hstu --help")
    return arguments[0], read_options(arguments[1:])


_COMMANDS = {
    "run": _run,
    "tune": _tune,
    "evaluate": _evaluate,
    "encode": _encode,
    "report": _report,
    "reproduce": _reproduce,
    "recommend": _recommend,
    "serve": _serve,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
