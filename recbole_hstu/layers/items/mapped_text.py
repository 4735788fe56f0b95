"""Text vectors of items that stay where their file lies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

_WIDE_ROWS = 1 << 15  # of float16 text that are float32 at once


@dataclass(frozen=True, eq=False)
class MappedText:
    """Stands where a table (V, K) of text vectors is read by item ids: a row is copied when it is
    asked for, and all processes that map the file share its pages.

    Attributes:
        rows: (V,) int64, where the items stand in `vectors` and then in `others`.
        vectors: (F, K), the file's.
        others: (O, K), what the file does not have.
        length: what every vector of the file is brought to; None leaves them as they are.
    """

    rows: torch.Tensor
    vectors: torch.Tensor
    others: torch.Tensor
    length: float | None = None

    @classmethod
    def of_file(cls, vectors: torch.Tensor, rows: torch.Tensor) -> MappedText:
        """Items by their rows (V,) in a file; -1 is an item that it does not have: zeros."""
        zero = vectors.new_zeros(1, vectors.shape[1])
        return cls(torch.where(rows < 0, len(vectors), rows), vectors, zero)

    @property
    def shape(self) -> torch.Size:
        """(V, K)."""
        return torch.Size([len(self.rows), self.vectors.shape[1]])

    @property
    def dtype(self) -> torch.dtype:
        """Of the file, float32 or float16."""
        return self.vectors.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, items: torch.Tensor | slice) -> torch.Tensor:
        """Ids of any shape, or some that follow each other -> their vectors (..., K)."""
        rows, n_mapped = self.rows[items], len(self.vectors)
        found = F.embedding(rows.clamp(max=n_mapped - 1), self.vectors)
        if self.length is not None:
            found = to_length(found, self.length)
        elsewhere = rows >= n_mapped
        found[elsewhere] = self.others[rows[elsewhere] - n_mapped]
        return found

    def to_length(self, length: float) -> MappedText:
        """The same directions, every vector of this length; zeros stay zeros."""
        return replace(self, length=length, others=to_length(self.others, length))

    def with_items(self, text: torch.Tensor) -> MappedText:
        """Further items behind the others, by their vectors (n, K)."""
        first = len(self.vectors) + len(self.others)
        rows = torch.arange(first, first + len(text))
        others = torch.cat([self.others, text.to(self.dtype)])
        return replace(self, rows=torch.cat([self.rows, rows]), others=others)


def to_length(text: torch.Tensor, length: float) -> torch.Tensor:
    """(..., K) vectors, every one brought to this length; a zero stays one."""
    # As float32, in which alone the least length that `normalize` divides by is not 0.
    parts = (length * F.normalize(part.float(), dim=-1) for part in text.split(_WIDE_ROWS))
    return torch.cat([part.to(text.dtype) for part in parts])
