"""The blocks of a sharded item table beside their checkpoint: a folder that all processes write.

torch's distributed checkpoints (DCP) in the form of safetensors: a file a process, each says which
rows it holds. Any number of processes reads them, one alone, too. There is no pickle among them.
"""

from __future__ import annotations

import glob
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recbole_hstu.distributed import processes
from recbole_hstu.distributed.row_blocks import blocks_of
from recbole_hstu.support.errors import CannotWrite, InputError, in_a_line
from recbole_hstu.support.files.whole_file import whole_folder

IDS = "items.ids"
"""The table's name in a checkpoint, sharded or not."""
_OWN_IDS = "items.own.ids"


class OwnBlock:
    """A process's block of the table of a model, with the moments that its optimiser has for it.

    Args:
        model: its `items` are `ShardedIds`.
        optimizer: of all its weights.
    """

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer):
        self._blocks, self._own = model.items.blocks, model.items.own.ids
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._place = next(i for i, weight in enumerate(weights) if weight is self._own)

    @contextmanager
    def stored(self, file: Path, state: dict[str, Any]) -> Iterator[None]:
        """Move the blocks of all processes out of what is to be in a checkpoint into a folder of
        their own. All processes call at once; the checkpoint is written in the block.

        Args:
            state: `state_dict` and `optimizer`; gets `table`, which names the folder.

        Raises:
            InputError: the folder cannot be written; nothing of it is left.
        """
        tensors = {IDS: state["state_dict"].pop(_OWN_IDS)}
        moments = state["optimizer"]["state"].get(self._place, {})
        tensors |= {k: v for k, v in moments.items() if _like(v, self._own.shape)}
        left = {k: v for k, v in moments.items() if k not in tensors}
        state["optimizer"]["state"][self._place] = left
        folder = file.with_name(f"{file.stem}.table-{uuid.uuid4().hex[:12]}")
        folder = processes.from_main(folder)
        self._write(folder, tensors)
        state["table"] = {
            "folder": folder.name,
            "shape": [self._blocks.rows, self._own.shape[1]],
            "moments": sorted(set(tensors) - {IDS}),
            "place": self._place,
        }
        try:
            yield
        except InputError:  # it could not be written
            if processes.is_main():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if processes.is_main():
            _remove_others(file, folder.name)

    def _write(self, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
        import torch.distributed.checkpoint as dcp

        try:
            with _new_folder(folder) as part:
                dcp.save(
                    {key: self._part(value) for key, value in tensors.items()},
                    storage_writer=dcp.HuggingFaceStorageWriter(str(part), save_distributed=True),
                    process_group=self._blocks.group,
                )
        except (OSError, dcp.api.CheckpointException) as error:
            raise CannotWrite(
                f"{folder}: the item table cannot be written ({in_a_line(error)[:200]}); the "
                "previous checkpoint is kept"
            ) from error

    def take(self, path: Path, state: dict[str, Any]) -> None:
        """Put this process's block into a checkpoint that was read without its table, in the
        place of the whole one if it has that. All processes call at once.

        Args:
            state: `state_dict` and, where moments are asked for, `optimizer`.

        Raises:
            InputError: the folder is missing, damaged, or of another table.
        """
        moments = state["optimizer"]["state"].get(self._place, {}) if "optimizer" in state else {}
        table = state.get("table")
        if table is None:
            own = self._blocks.own
            whole = state["state_dict"].pop(IDS)
            state["state_dict"][_OWN_IDS] = whole[own.start : own.stop]
            for key in [key for key, value in moments.items() if _like(value, whole.shape)]:
                moments[key] = moments[key][own.start : own.stop].clone()
            return
        names = [IDS, *(table["moments"] if "optimizer" in state else [])]
        found = {name: torch.empty_like(self._own, requires_grad=False) for name in names}
        parts = {name: self._part(value) for name, value in found.items()}
        _read(path, table, parts, self._blocks.group)
        state["state_dict"][_OWN_IDS] = found.pop(IDS)
        moments.update(found)

    def _part(self, own: torch.Tensor) -> Any:
        """A block as a part of the whole, which is how DCP knows its rows."""
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = DeviceMesh.from_group(self._blocks.group, own.device.type)
        shape = torch.Size([self._blocks.rows, own.shape[1]])
        return DTensor.from_local(
            own.detach(), mesh, [Shard(0)], run_check=False, shape=shape, stride=own.stride()
        )


def own_block(model: Any, optimizer: torch.optim.Optimizer) -> OwnBlock | None:
    """Of this process; None where it has the whole table."""
    return None if blocks_of(model) is None else OwnBlock(model, optimizer)


def add_whole(path: Path, state: dict[str, Any], device: Any, *, moments: bool) -> None:
    """Give a checkpoint its whole table, as if one process had written it; nothing, where one has.

    Args:
        moments: whether the optimiser's state gets what belongs to the table, too.

    Raises:
        InputError: the folder is missing, or damaged.
    """
    table = state.pop("table", None)
    if table is None:
        return
    names = [IDS, *(table["moments"] if moments else [])]
    found = {name: torch.empty(table["shape"], device=device) for name in names}
    _read(path, table, found, None)
    state["state_dict"][IDS] = found.pop(IDS)
    if moments:
        state["optimizer"]["state"][table["place"]].update(found)


def check(path: Path, table: dict[str, Any]) -> None:
    """Whether the folder that belongs to a checkpoint is there and whole.

    Raises:
        InputError: it is not.
    """
    import torch.distributed.checkpoint as dcp

    folder = path.with_name(table["folder"])
    if not folder.is_dir():
        raise InputError(f"{folder}: the item table of {path.name} is missing; keep both together")
    try:
        known: Any = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        rows = {key: sum(chunk.sizes[0] for chunk in known[key].chunks) for key in known}
    except Exception as error:  # safetensors and torch raise many kinds
        raise _damaged(folder, in_a_line(error)) from error
    for name in (IDS, *table["moments"]):
        if rows.get(name) != table["shape"][0]:
            raise _damaged(folder, f"{rows.get(name, 0):,} of {table['shape'][0]:,} rows of {name}")


def _read(path: Path, table: dict[str, Any], wanted: dict[str, Any], group: Any) -> None:
    """Fill tensors: parts of a group's, or whole ones where there is none."""
    import torch.distributed.checkpoint as dcp

    check(path, table)
    folder = path.with_name(table["folder"])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(
                wanted,
                storage_reader=dcp.HuggingFaceStorageReader(str(folder)),
                process_group=group,
                no_dist=group is None,
            )
    except (OSError, dcp.api.CheckpointException) as error:
        raise _damaged(folder, in_a_line(error)) from error


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(
        f"{folder}: damaged item table ({why[:200]}); name another checkpoint, or train anew"
    )


def _like(value: Any, shape: torch.Size) -> bool:
    return torch.is_tensor(value) and value.shape == shape


def _remove_others(file: Path, kept: str) -> None:
    """Remove the folders that earlier checkpoints of this name have named, and what a killed
    training has left: no other one writes under this name."""
    name = glob.escape(file.stem)
    found = [*file.parent.glob(f"{name}.table-*"), *file.parent.glob(f".{name}.table-*.part")]
    for folder in found:
        if folder.name != kept:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """`whole_folder` of the first process, for all."""
    if not processes.is_main():
        yield processes.from_main(folder)
        processes.barrier()
        return
    with whole_folder(folder) as part:
        yield processes.from_main(part)
        processes.barrier()
