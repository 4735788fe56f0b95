"""Item vectors from ids, codes or text: one table a step to gather from, no projection an item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from recbole_hstu.data.files.semantic_id_file import SemanticIds
from recbole_hstu.layers.items.mapped_text import MappedText
from recbole_hstu.layers.items.semantic_codes import SemanticCodes
from recbole_hstu.layers.items.stand_in_ids import stand_in_ids
from recbole_hstu.support.errors import InputError

# Items in one product of `_Project`.
BLOCK_ITEMS = 2048
# Blocks of text that are gathered, and float32, at once.
_PART_BLOCKS = 16
# Rows of a table that are drawn at once. Smaller tables are drawn as a whole.
DRAWN_ROWS = 1 << 20


class IdEncoder(nn.Module):
    """A learned vector an item.

    Args:
        n_items: V, padding included.
        hidden_size: D.
        sparse: whether the gradient of a few rows is that of these rows alone.
        block: the items that it holds, and counts from 0; None is all. They have the vectors that
            they would have among all, of the same random numbers.
    """

    def __init__(
        self,
        *,
        n_items: int,
        hidden_size: int,
        sparse: bool = False,
        block: range | None = None,
    ):
        super().__init__()
        self.ids = nn.Parameter(_truncated_normal(n_items, hidden_size, block=block))
        self.sparse = sparse

    def forward(self, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of inputs and positives and the table of negatives and candidates, (V, D)
        each, or (U, D) of the items `rows` (U,) alone; here they are one."""
        ids = _rows_of(self.ids, rows, self.sparse)
        return ids, ids


class CodeEncoder(nn.Module):
    """The sum of the vectors of an item's codes: as many vectors as codes, not as items.

    Args:
        ids: the semantic ids of the items.
        hidden_size: D.
        with_ids: whether a learned vector an item is added.
    """

    ids: nn.Parameter | None

    def __init__(self, ids: SemanticIds, *, hidden_size: int, with_ids: bool):
        super().__init__()
        self.semantic_ids = SemanticCodes(ids)
        scale = len(ids.level_sizes) ** -0.5  # the sum begins as wide as a vector of `IdEncoder`
        tables = (_truncated_normal(size, hidden_size) * scale for size in ids.level_sizes)
        self.levels = nn.ParameterList(tables)
        own = nn.Parameter(_truncated_normal(len(ids.codes), hidden_size)) if with_ids else None
        self.register_parameter("ids", own)

    def forward(self, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of inputs and positives and the table of negatives and candidates, (V, D)
        each, or (U, D) of the items `rows` (U,) alone; here they are one."""
        codes = self.semantic_ids.codes if rows is None else self.semantic_ids.codes[rows]
        first, *others = codes.clamp(min=0).unbind(1)  # nobody reads the vector of the padding
        vectors = F.embedding(first, self.levels[0])
        for code, table in zip(others, self.levels[1:], strict=True):
            vectors = vectors.add_(F.embedding(code, table))  # in place: catalogues are large
        if self.ids is not None:
            vectors = vectors.add_(_rows_of(self.ids, rows))
        return vectors, vectors


class FusedEncoder(nn.Module):
    """Ids and frozen text vectors, fused (HSTU-BLaIR, equations 1 and 2).

        sum        e_id + W e_text
        gate       g * e_id + (1 - g) * W e_text, g learned in R^D (section 4 of the paper)
        text_only  W e_text

    Args:
        text: (V, text width) float32 or float16, which stays so in memory, or where its file
            lies; frozen, in no checkpoint, kept out of DDP's broadcasts.
        text_hash: stands for `text` in a checkpoint.
        hidden_size: D.
        fusion: one of the above.
        negative_projection: `shared` uses one W everywhere, as the research code does;
            `separate` gives negatives and candidates a W of their own, as the paper says.
        sparse: as in `IdEncoder`.
    """

    text: torch.Tensor | MappedText

    def __init__(
        self,
        *,
        text: torch.Tensor | MappedText,
        text_hash: str,
        hidden_size: int,
        fusion: str = "sum",
        negative_projection: str = "shared",
        sparse: bool = False,
    ):
        super().__init__()
        n_items, width = text.shape
        self.text_hash = text_hash
        if isinstance(text, MappedText):
            self.text = text
        else:
            self.register_buffer("text", text, persistent=False)
        if fusion != "text_only":
            self.ids = nn.Parameter(_truncated_normal(n_items, hidden_size))
        self.projection = _projection(width, hidden_size)
        if negative_projection == "separate":
            self.negative_projection = _projection(width, hidden_size)
        if fusion == "gate":
            self.gate = nn.Parameter(torch.full((hidden_size,), 0.5))
        self.fusion = fusion
        self.sparse = sparse

    def forward(self, rows: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of inputs and positives and the table of negatives and candidates, (V, D)
        each, or (U, D) of the items `rows` (U,) alone; the very same with a shared projection."""
        text = self._text(rows)
        ids = None if self.fusion == "text_only" else _rows_of(self.ids, rows, self.sparse)
        inputs = self._fuse(ids, text, self.projection)
        if not hasattr(self, "negative_projection"):
            return inputs, inputs
        return inputs, self._fuse(ids, text, self.negative_projection)

    def _text(self, rows: torch.Tensor | None) -> torch.Tensor | MappedText:
        if rows is None:
            return self.text
        return self.text[rows] if isinstance(self.text, MappedText) else _rows_of(self.text, rows)

    def _fuse(
        self, ids: torch.Tensor | None, text: torch.Tensor | MappedText, linear: nn.Linear
    ) -> torch.Tensor:
        projected = _Project.apply(text, linear.weight, linear.bias)
        if ids is None:
            return projected
        if self.fusion == "sum":
            return projected.add_(ids)
        return self.gate * ids + (1 - self.gate) * projected

    @torch.no_grad()
    def add_items(self, text: torch.Tensor, stand_in: str) -> None:
        """Further items behind the others, known by their text (n, text width).

        Args:
            stand_in: for their id vectors, see `stand_in_ids`.
        """
        if self.fusion != "text_only":
            stand_ins = stand_in_ids(stand_in, self.ids, self.text, text)
            self.ids = nn.Parameter(torch.cat([self.ids, stand_ins]), requires_grad=False)
        if isinstance(self.text, MappedText):
            self.text = self.text.with_items(text)
        else:
            self.text = torch.cat([self.text, text.to(self.text.dtype)])

    def get_extra_state(self) -> str:
        return self.text_hash

    def set_extra_state(self, state: Any) -> None:
        check_text_hash(state, self.text_hash)


def check_text_hash(before: Any, now: str) -> None:
    """Whether a checkpoint's frozen text vectors are those at hand.

    Raises:
        InputError: they are others.
    """
    if before != now:
        raise InputError(
            f"the checkpoint was trained with other text vectors ({str(before)[:12]}, not "
            f"{now[:12]}); name their file with --text_features_file, or train anew"
        )


class _Project(torch.autograd.Function):
    """text @ weight.T + bias for a text that needs no gradient.

    The products of both passes go over blocks of items, some of them as one batch: for the few
    columns that a model has, one product of everything takes a CPU a third longer.

    Shapes: text (V, K), weight (D, K), bias (D,) -> (V, D).
    """

    @staticmethod
    def forward(ctx, text, weight, bias):
        ctx.text = text
        out = weight.new_empty(len(text), len(weight))
        for some, part in _parts(text, out):
            blocks, rest = _in_blocks(some)
            head, tail = _in_blocks(part)
            torch.baddbmm(bias, blocks, weight.t().expand(len(blocks), -1, -1), out=head)
            torch.addmm(bias, rest, weight.t(), out=tail)
        return out

    @staticmethod
    def backward(ctx, grad):
        of_weight = grad.new_zeros(grad.shape[1], ctx.text.shape[1])
        with torch.autocast(grad.device.type, enabled=False):  # one precision for all parts
            for some, part in _parts(ctx.text, grad):
                blocks, rest = _in_blocks(some)
                grads, grad_rest = _in_blocks(part)
                of_part = torch.bmm(grads.transpose(1, 2), blocks).sum(0)
                of_weight += of_part.addmm_(grad_rest.t(), rest)
            return None, of_weight, grad.sum(0)


def _parts(
    text: torch.Tensor | MappedText, others: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Parts of a text, in the dtype of (V, D), and the same rows of that."""
    n_rows = _PART_BLOCKS * BLOCK_ITEMS
    for start in range(0, len(text), n_rows):
        rows = slice(start, start + n_rows)
        yield text[rows].to(others.dtype), others[rows]


def _in_blocks(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, F) -> (blocks, BLOCK_ITEMS, F) and the rows that are left."""
    n_blocks = len(rows) // BLOCK_ITEMS
    whole = n_blocks * BLOCK_ITEMS
    return rows[:whole].unflatten(0, (n_blocks, BLOCK_ITEMS)), rows[whole:]


def _rows_of(table: torch.Tensor, rows: torch.Tensor | None, sparse: bool = False):
    return table if rows is None else F.embedding(rows, table, sparse=sparse)


def _truncated_normal(n_rows: int, width: int, block: range | None = None) -> torch.Tensor:
    """(n_rows, width), or the rows of a block of them."""
    kept = range(n_rows) if block is None else block
    table = torch.empty(len(kept), width)
    for start in range(0, n_rows, DRAWN_ROWS):  # torch holds four copies of what it draws
        drawn = torch.empty(min(DRAWN_ROWS, n_rows - start), width)
        nn.init.trunc_normal_(drawn, std=0.02, a=-0.04, b=0.04)
        first, last = max(start, kept.start), min(start + len(drawn), kept.stop)
        if first < last:
            table[first - kept.start : last - kept.start] = drawn[first - start : last - start]
    return table


def _projection(width: int, hidden_size: int) -> nn.Linear:
    linear = nn.Linear(width, hidden_size)
    for parameter in (linear.weight, linear.bias):
        nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
    return linear
