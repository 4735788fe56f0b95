"""A GPU in name only: tensors on the CPU that say they are elsewhere, for machines without one.

As with CUDA, an operation over tensors of two devices fails, `is_cuda` is true, and a value is read
only by a copy, for which the program waits. Kernels, speed and memory of a GPU are not emulated.
The device is torch's `meta`, the one that needs neither driver nor library.
"""

from collections import Counter
from contextlib import ExitStack, nullcontext
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
AUTOCAST = torch.autocast
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
READS = {aten.index.Tensor}
WRITES = {aten.index_put_.default, aten._index_put_impl_.default}
# Their result, or its size, is needed on the CPU before the program can go on.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.bincount.default,
}


class Elsewhere(torch.Tensor):
    """A tensor `inner` of the CPU under the name of the emulated device."""

    inner: torch.Tensor
    is_cuda = property(lambda self: True)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        return self.to("cpu").tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class Generator(torch.Generator):
    """A generator of the emulated device."""

    device = property(lambda self: DEVICE)


class EmulatedGPU(TorchDispatchMode):
    """While it is entered, `device="meta"` is the emulated GPU.

    Attributes:
        waits: how often the program had to wait for the GPU, by operation.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()
        self._others = ExitStack()

    def __enter__(self):
        self._others.enter_context(_Functions())
        self._others.enter_context(mock.patch.object(torch, "autocast", _autocast))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._others.close()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _waits(func, args, kwargs):
            self.waits[func.name()] += 1
        return _run(func, args, kwargs)


class _Functions(TorchFunctionMode):
    """What a dispatch mode does not see: where a list becomes a tensor (a copy is seen), and the
    device of a generator."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        of_first = args[0].device if args and isinstance(args[0], torch.Tensor) else "cpu"
        device = torch.device(kwargs.get("device") or of_first)
        generator = kwargs.get("generator")
        if generator is not None and generator.device != device:
            raise RuntimeError(f"{func}: a generator of another device than {device}")
        if func is torch.tensor and kwargs.pop("device", None) is not None:
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


def _autocast(device_type, **options):
    """Nothing on the emulated device, of which torch knows no autocast."""
    return nullcontext() if device_type == DEVICE.type else AUTOCAST(device_type, **options)


def _run(func, args, kwargs):
    """`func` on the CPU; its results are elsewhere if its tensors are, or if it is told so."""
    _refuse_two_devices(func, args, kwargs)
    ours = [x for x in tree_leaves((args, kwargs)) if _is_ours(x)]
    elsewhere = bool(ours)
    if func is aten.copy_.default:
        elsewhere = _is_ours(args[0])
    elif kwargs.get("device") is not None:
        elsewhere = torch.device(kwargs["device"]) == DEVICE
        kwargs = kwargs | {"device": torch.device("cpu")}
    args, kwargs = tree_map(lambda x: x.inner if _is_ours(x) else x, (args, kwargs))
    out = func(*args, **kwargs)
    same = {id(x.inner): x for x in ours}  # operations in place return what they were given

    def renamed(x):
        if not isinstance(x, torch.Tensor):
            return x
        return same[id(x)] if id(x) in same else Elsewhere(x)

    return tree_map(renamed, out) if elsewhere else out


def _refuse_two_devices(func, args, kwargs):
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    if func in COPIES or not any(_is_ours(x) for x in tensors):
        return
    if func in READS | WRITES and _is_ours(args[0]):
        tensors = [args[0], *args[2:3]]  # indices may come from the CPU
    if any(x.dim() > 0 and not _is_ours(x) for x in tensors):
        raise RuntimeError(f"{func}: tensors of the CPU and of the emulated GPU")


def _waits(func, args, kwargs):
    """Whether the program stops until the GPU has done what it was told before."""
    if func is aten._to_copy.default:
        source, target = _is_ours(args[0]), kwargs.get("device")
        crosses = target is not None and source != (torch.device(target) == DEVICE)
        return crosses and (source or not kwargs.get("non_blocking"))
    if func is aten.copy_.default:
        return _is_ours(args[0]) != _is_ours(args[1])
    if not any(_is_ours(x) for x in tree_leaves(args)):
        return False
    if func in READS | WRITES:
        indices = [x for x in args[1] if x is not None]
        by_mask = any(x.dtype == torch.bool for x in indices)
        of_one_value = func in WRITES and args[2].numel() == 1  # no place need be known for it
        return (by_mask and not of_one_value) or not all(map(_is_ours, indices))
    if func is aten.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return func in WAITING


def _is_ours(x):
    return isinstance(x, Elsewhere)
