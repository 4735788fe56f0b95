"""Checkpoints of tensors and plain values: written whole or not at all, read without pickle's
dangers (`torch.load(weights_only=True)`) by every torch from 2.5 on, for RecBole's models too."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_hstu.support.errors import CannotWrite, InputError, in_a_line
from recbole_hstu.support.files.whole_file import is_abandoned, whole_file
from recbole_hstu.training.tables import table_folder


@contextmanager
def claimed(folder: str | Path, name: str, seed: int) -> Iterator[Path]:
    """A file name for the checkpoints of one run, for the duration of a block.

    It is `NAME-SEED.pth`, or `NAME-2-SEED.pth` and so on where a checkpoint, or a run that has not
    written any yet, bears that name. Such a run holds it by an empty `.FILE.claim`.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.claim"):
            if is_abandoned(left):
                left.unlink(missing_ok=True)
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        files = (folder / f"{name}{number}-{seed}.pth" for number in numbers)
        file = next(file for file in files if _claim(file))
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be written ({error.strerror})") from error
    try:
        yield file
    finally:
        _claim_of(file).unlink(missing_ok=True)


def _claim(file: Path) -> bool:
    """Hold a name if it is free."""
    claim = _claim_of(file)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    if file.exists() or last_file(file).exists():
        claim.unlink()
        return False
    return True


def _claim_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.claim")


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path` and rename it there.

    Raises:
        CannotWrite: the disk is full or the folder cannot be written; what was there stays.
    """
    path = Path(path)
    try:
        with whole_file(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # torch cannot end a file that Ctrl-C cut short
        why = error.__context__ if isinstance(error.__context__, OSError) else error
        words = in_a_line(getattr(why, "strerror", None) or why)
        kept = "; the previous checkpoint is kept" if path.exists() else ""
        raise CannotWrite(f"{path}: the checkpoint cannot be written ({words}){kept}") from error


def load_checkpoint(
    path: str | Path, device: Any = "cpu", *, mapped: bool = False, with_table: bool = True
) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Args:
        device: of the tensors.
        mapped: tensors on the CPU whose bytes are read when they are used; so nobody looks
            whether they are those that were written.
        with_table: whether a sharded item table is read, too, and stands in `state_dict` as a
            whole one does, without its moments in `optimizer`. Else `table` says where it is.

    Raises:
        InputError: no such file, a file cut short, a file of something else; a sharded table that
            is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True, mmap=mapped)
        changed = None if mapped else _changed_part(path)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise InputError(
            f"{path}: damaged, or no checkpoint of recbole_hstu ({type(error).__name__}); "
            "name another one, or train anew without it"
        ) from error
    if changed:
        raise InputError(
            f"{path}: damaged, its checksum differs ({changed}); copy the file anew, or train anew"
        )
    if not isinstance(state, dict) or not {"config", "state_dict", "epoch"} <= set(state):
        raise InputError(f"{path}: not a checkpoint of recbole_hstu")
    if "tokens" not in state:
        raise InputError(f"{path}: a checkpoint of an earlier release; train anew with this one")
    if with_table:
        table_folder.add_whole(path, state, device, moments=False)
    return state


def _changed_part(path: Path) -> str | None:
    """The first part of a file whose checksum differs, at which torch does not look."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def load_weights(path: str | Path) -> dict[str, Any]:
    """The weights without the optimiser's state; `table` says where a sharded table is.

    Raises:
        InputError: see `load_checkpoint`.
    """
    state = load_checkpoint(path, mapped=True, with_table=False)
    return {key: state[key] for key in ("state_dict", "other_parameter", "table") if key in state}


def load_resumable(path: str | Path) -> dict[str, Any]:
    """Read the `.last.pth` of a training that is to go on; its tensors are mapped.

    Raises:
        InputError: see `load_checkpoint`; or it holds the best epoch, or the file of the best
            epoch that belongs to it is missing, or its sharded table.
    """
    state = load_checkpoint(path, mapped=True, with_table=False)
    last = last_file(path)
    if not Path(path).name.endswith(".last.pth"):
        there = f"go on with --resume={last}" if last.is_file() else f"and {last} is not there"
        raise InputError(f"{path}: holds the best epoch, not the last one; {there}")
    if state["best_valid_result"] and not Path(best_file(path)).is_file():
        raise InputError(f"{best_file(path)}: the best epoch's checkpoint is missing beside {path}")
    if "table" in state:
        table_folder.check(Path(path), state["table"])
    return state


def last_file(file: str | Path) -> Path:
    """The `.last.pth` that belongs to the best epoch's checkpoint."""
    return Path(file).with_suffix(".last.pth")


def best_file(resume_file: str | Path) -> str:
    """The best epoch's checkpoint that belongs to a `.last.pth`."""
    return f"{str(resume_file).removesuffix('.pth').removesuffix('.last')}.pth"


def last_of_launch(folder: str | Path, launch: str) -> Path | None:
    """The newest `.last.pth` in a folder that a job of this name has written."""

    def is_its(file: Path) -> bool:
        try:  # `mmap`: the tensors stay where they are
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            return state["launch"] == launch
        except Exception:  # as in `load_checkpoint`; it is none of ours
            return False

    files = [file for file in Path(folder).glob("*.last.pth") if file.is_file()]
    files.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return next(filter(is_its, files), None)


def encode(value: Any) -> Any:
    """Arrays and sparse matrices (RecBole's neighbourhood models keep them) as tensors.

    Modules are left out: their weights are in the state dict.
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not isinstance(v, torch.nn.Module)}
        return {key: encode(item) for key, item in kept.items()}
    if scipy.sparse.issparse(value):
        matrix = scipy.sparse.csr_matrix(value)
        parts = [torch.from_numpy(p) for p in (matrix.data, matrix.indices, matrix.indptr)]
        return {"__csr__": parts, "shape": list(matrix.shape)}
    if isinstance(value, np.ndarray):
        return {"__array__": torch.from_numpy(np.ascontiguousarray(value))}
    return value.item() if isinstance(value, np.generic) else value


def decode(value: Any, device: Any = "cpu") -> Any:
    """Undo of `encode`; a sparse matrix comes back in CSR form, a tensor on a device."""
    if torch.is_tensor(value):
        return value.to(device)
    if not isinstance(value, dict):
        return value
    if "__csr__" in value:
        parts = tuple(part.cpu().numpy() for part in value["__csr__"])
        return scipy.sparse.csr_matrix(parts, shape=value["shape"])
    if "__array__" in value:
        return value["__array__"].cpu().numpy()
    return {key: decode(item, device) for key, item in value.items()}
