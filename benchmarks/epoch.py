"""A whole epoch over all users: SASRec, GRU4Rec and BERT4Rec in their ways, HSTU and HSTUText.

    python benchmarks/epoch.py --dataset=ml-100k [--data_path dataset] [--history 50] [--device cpu]

On the CPU, then on a GPU where there is one, unless --device names one of them. The same data,
split and history for all, a process each: the seconds of an epoch of training (the median of a
few where they are short) and of one evaluation of the test set, and peak memory above the imports.
`recbole` is RecBole without this package. `prefix` is its way within this package, a row a prefix,
and all rows padded in an evaluation; here as in all that follow the process keeps freed memory.
`window` learns at every position of a window, `cloze` masks whole windows, and on the CPU both
evaluate rows as wide as their histories; ours learn at every position of every user. A batch of
RecBole's models counts targets, of ours users. Times faster are those of a model's first way.
`--models=SASRec/prefix,SASRec/window` takes some of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import device_option
from own_process import in_own_process
from peak import peak_mib
from stock_recbole import one_epoch

from recbole_hstu.config.config import Config
from recbole_hstu.data.data_set import load_dataset
from recbole_hstu.data.loaders import make_loaders
from recbole_hstu.support.memory import keep_freed_memory
from recbole_hstu.training.preparation import build_model, provide_text
from recbole_hstu.training.trainer import trainer_class
from recbole_hstu.training.views.train_view import in_train_view

MODELS = {
    # RecBole's default; the papers have 128 for SASRec, and sessions for GRU4Rec.
    "SASRec/recbole": {"train_batch_size": 2048},
    "SASRec/prefix": {"train_view": "prefix", "train_batch_size": 2048},
    "SASRec/window": {"train_view": "window", "train_batch_size": 2048},
    "GRU4Rec/recbole": {"train_batch_size": 2048},
    "GRU4Rec/prefix": {"train_view": "prefix", "train_batch_size": 2048},
    "GRU4Rec/window": {"train_view": "window", "train_batch_size": 2048},
    "BERT4Rec/prefix": {"train_view": "prefix", "train_batch_size": 2048},
    "BERT4Rec/cloze": {"train_view": "cloze", "train_batch_size": 2048},
    "HSTU": {"train_batch_size": 128},
    "HSTUText": {"train_batch_size": 128, "text_encoder": "lsa"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--history", type=int, default=50)
    parser.add_argument("--models", default=",".join(MODELS))
    device_option.add_option(parser)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        how = measure_recbole if args.models.endswith("/recbole") else measure
        sys.stdout.write("\n" + json.dumps(how(args.models, args)))
        return
    for device in device_option.asked(args):
        compare(args, device)


def compare(args: argparse.Namespace, device: str) -> None:
    found = {}
    for model in args.models.split(","):
        own = [f"--models={model}", f"--device={device}", "--one"]
        found[model] = in_own_process(*sys.argv[1:], *own)
    sys.stdout.write(f"{args.dataset}, history {args.history}, {device}\n")
    for model, of in found.items():
        first = next(found[m] for m in found if m.partition("/")[0] == model.partition("/")[0])
        sys.stdout.write(
            f"{model:15} batch {MODELS[model]['train_batch_size']:5}  {of['rows']:>8,} rows  "
            f"epoch {of['epoch']:8.1f} s ({first['epoch'] / of['epoch']:5.1f} times faster)  "
            f"evaluation {of['evaluation']:6.1f} s  peak {of['peak']:6.0f} MiB\n"
        )


def common_options(model: str, args: argparse.Namespace) -> dict[str, Any]:
    options = {**MODELS[model], "MAX_ITEM_LIST_LENGTH": args.history}
    options["use_gpu"] = args.device == "cuda"
    if args.data_path:
        options["data_path"] = args.data_path
    return options


def measure_recbole(model: str, args: argparse.Namespace) -> dict[str, float]:
    options = common_options(model, args)
    sys.argv = sys.argv[:1]  # RecBole reads it
    before = peak_mib(args.device)
    rows, epoch, evaluation = one_epoch(model.partition("/")[0], args.dataset, options)
    peak = peak_mib(args.device) - before
    return {"rows": rows, "epoch": epoch, "evaluation": evaluation, "peak": peak}


def measure(model: str, args: argparse.Namespace) -> dict[str, float]:
    options = common_options(model, args) | {"protocol": "recbole", "epochs": 1}
    options |= {"show_progress": False, "mask_seen": True}
    before = peak_mib(args.device)
    keep_freed_memory()
    name, _, view = model.partition("/")
    config = Config(name, args.dataset, config_dict=options)
    train, _, test = make_loaders(config, load_dataset(config))
    provide_text(config, train._dataset)
    network = build_model(config, train._dataset)
    train = in_train_view(config, train, network)
    trainer = trainer_class(config["MODEL_TYPE"], name)(config, network)
    if view == "prefix":
        network.full_sort_predict = network.full_sort_predict.own
    epochs: list[float] = []
    while len(epochs) < 9 and sum(epochs) < 20:  # a single short one says little
        started = time.perf_counter()
        trainer.fit(train, None, verbose=False, saved=False)
        epochs.append(time.perf_counter() - started)
    trained = time.perf_counter()
    trainer.evaluate(test, load_best_model=False)
    return {
        "rows": len(train._dataset),
        "epoch": statistics.median(epochs),
        "evaluation": time.perf_counter() - trained,
        "peak": peak_mib(args.device) - before,
    }


if __name__ == "__main__":
    main()
