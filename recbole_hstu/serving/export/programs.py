"""User vectors as programs of other runtimes, each compared with the model when it is written."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_hstu.serving.export.padded import PaddedHSTU, PaddedRecBole, UserVectors
from recbole_hstu.serving.histories import Histories
from recbole_hstu.serving.recommender import Recommender
from recbole_hstu.serving.scorers import VectorScorer
from recbole_hstu.support.errors import ANY_REASON, InputError, in_a_line

TOLERANCE = 1e-5
OPSET = 17  # the first with layer normalisation
SEED = 2024
Run = Callable[[tuple[torch.Tensor, ...]], torch.Tensor]


class Programs:
    """What is exported of one model, and how far it may be trusted.

    Args:
        rec: of the model; items that were added to it are exported, too.

    Attributes:
        module: user vectors from padded rows.
        length: events at most.
        fixed: whether `write_torch` pads every row to `length`: `torch.export` unrolls recurrent
            layers.

    Raises:
        InputError: a model whose scores are no product of a user's vector with items'.
    """

    def __init__(self, rec: Recommender):
        self.rec, self.length = rec, rec.max_history
        self.module = _user_vectors(rec).eval()
        self.fixed = any(isinstance(part, nn.RNNBase) for part in self.module.modules())
        try:
            off = self._error(lambda tensors: self.module(*tensors), self._shapes)
        except ANY_REASON as error:
            raise _no_vectors(self._name) from error
        if off > TOLERANCE:
            raise _no_vectors(self._name)

    @property
    def _name(self) -> str:
        return self.rec.saved.config["model"]

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        """Rows and lengths of the batches by which a program is judged."""
        return [(1, 1), (3, self.length // 2 + 1), (2, self.length), (5, 1)]

    def write_onnx(self, path: Path) -> None:
        """An ONNX model of any batch and length, checked with onnxruntime.

        Raises:
            InputError: it gives other scores than the model.
        """
        import onnxruntime

        given, _ = self._batch(3, min(self.length, 2))
        axes = {name: {0: "batch", 1: "length"} for name in self.module.inputs}
        axes |= {name: {0: "batch"} for name in ("item_length", "timestamp") if name in axes}
        with self._exported_to(path):
            torch.onnx.export(
                self.module,
                given,
                str(path),
                input_names=list(self.module.inputs),
                output_names=["user_vector"],
                dynamic_axes={**axes, "user_vector": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,  # the exporter that needs no further package
            )
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

            def run(tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
                arrays = [tensor.numpy() for tensor in tensors]
                fields = dict(zip(self.module.inputs, arrays, strict=True))
                return torch.from_numpy(session.run(None, fields)[0])

            self._check(run, path, self._shapes)

    def write_torch(self, path: Path) -> None:
        """A program of `torch.export`, of any batch and, unless `fixed`, any length.

        Raises:
            InputError: it gives other scores than the model.
        """
        batch = torch.export.Dim("batch", min=1)
        rows = {0: batch}
        if not self.fixed and self.length > 1:  # torch knows no range of one length
            rows[1] = torch.export.Dim("length", min=1, max=self.length)
        given, _ = self._batch(3, self.length)
        shapes = tuple(rows if tensor.ndim == 2 else {0: batch} for tensor in given)
        with self._exported_to(path):
            program = torch.export.export(self.module, given, dynamic_shapes=shapes, strict=False)
            torch.export.save(program, path)
            loaded = torch.export.load(path).module()
            judged = [(n, self.length if self.fixed else length) for n, length in self._shapes]
            self._check(lambda tensors: loaded(*tensors), path, judged)

    @contextmanager
    def _exported_to(self, path: Path) -> Iterator[None]:
        """What cannot be exported, or not be run, becomes an `InputError` of one line."""
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except (InputError, OSError):
            raise
        except Exception as error:  # onnxruntime's have no base of their own
            raise InputError(
                f"{path.name}: {self._name} cannot be exported like this; leave it out with "
                f"--formats ({in_a_line(error)[:200]})"
            ) from error

    def _check(self, run: Run, path: Path, shapes: list[tuple[int, int]]) -> None:
        error = self._error(run, shapes)
        if error > TOLERANCE:
            raise InputError(f"{path.name}: its scores are {error:.1e} off those of {self._name}")

    @torch.inference_mode()
    def _error(self, run: Run, shapes: list[tuple[int, int]]) -> float:
        """The largest difference of scores, relative to the largest score where that is above 1;
        infinite where one is NaN."""
        worst = 0.0
        for shape in shapes:
            tensors, expected = self._batch(*shape)
            scores = run(tensors) @ self.module.items.t()
            error = (scores - expected).abs().max() / expected.abs().max().clamp(min=1)
            worst = max(worst, float(error.nan_to_num(torch.inf)))
        return worst

    def _batch(self, rows: int, length: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Drawn histories of up to `length` events, as `module` takes them, and their scores."""
        draw = np.random.default_rng([SEED, rows, length])
        counts = draw.integers(1, length + 1, rows)
        counts[0] = length
        items = draw.integers(1, self.rec.scorer.n_items, counts.sum())
        times = [10**9 + np.sort(draw.integers(0, 10**8, count)) for count in counts]
        at = np.array([some[-1] for some in times]) + draw.integers(0, 10**6, rows)
        flat = np.concatenate(times) if self.rec.needs_time else None
        given = Histories([*range(rows)], items, flat, counts.cumsum())
        batch = self.rec.batch(given, at if self.rec.needs_time else None, 0, rows)
        expected = self.rec.scorer.scores(self.rec.scorer.prepare(batch), slice(None))
        found = given.rows(0, rows, length)
        fields: dict[str, Any] = {"item_id_list": found["item"], "item_length": found["length"]}
        fields |= {"timestamp_list": found.get("time"), "timestamp": torch.from_numpy(at)}
        return tuple(fields[name] for name in self.module.inputs), expected


def _user_vectors(rec: Recommender) -> UserVectors:
    model = rec.saved.model
    if isinstance(rec.scorer, VectorScorer):
        return PaddedHSTU(model, rec.scorer)
    takes = list(inspect.signature(model.forward).parameters)
    if takes != ["item_seq", "item_seq_len"] or not hasattr(model, "item_embedding"):
        raise _no_vectors(rec.saved.config["model"])
    return PaddedRecBole(model, rec.scorer.n_items)


def _no_vectors(name: str) -> InputError:
    return InputError(
        f"{name} cannot be exported: it does not multiply a vector, made of the items of a history "
        "alone or with their times, with item vectors, as the HSTU family, SASRec and GRU4Rec do"
    )
