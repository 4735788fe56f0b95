"""What an encoder is, and what the encoders share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from tqdm import tqdm

from recbole_hstu.encoders.options import TextOptions
from recbole_hstu.support.errors import InputError

Batch = tuple[list[int], np.ndarray]


class Encoder(ABC):
    """Turns texts into vectors.

    Attributes:
        name: of the model, for metadata and messages.
        revision: which version of it, as exactly as can be known.
        identity: all that decides the vector of a text; plain JSON values.
        per_text: whether a text's vector depends on nothing but the text, so that it is worth
            keeping for the next data set.
        state: of an encoder that is not: what further texts need, once the corpus is encoded.
    """

    name: str
    revision: str
    identity: Mapping[str, Any]
    per_text = True
    state: Mapping[str, np.ndarray] = MappingProxyType({})

    @abstractmethod
    def __init__(self, options: TextOptions) -> None: ...

    @abstractmethod
    def batches(self, texts: Sequence[str], *, progress: bool = True) -> Iterator[Batch]:
        """Encode prepared texts, batch by batch.

        The batches of what an interrupted call left over are those that it would have come to, so
        that vectors are the same to the last bit.

        Yields:
            (positions in `texts`, float32 vectors (len(positions), dim)), every position once.

        Raises:
            InputError: the encoder gave up, or what it gave is not usable.
        """

    @classmethod
    def known_revision(cls, options: TextOptions) -> str | None:
        """The revision that the options ask for, told without loading the model; None: any."""
        return options.text_revision

    def prepare(self, texts: Sequence[str]) -> list[str]:
        """The texts as they will be sent, which is what their vectors are kept by."""
        return list(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors (len(texts), dim), float32, in the order of `texts`; nothing is kept.

        Raises:
            InputError: no text at all, or what `batches` raises.
        """
        table: np.ndarray | None = None
        for positions, vectors in self.batches(self.prepare(texts), progress=False):
            if table is None:
                table = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
            table[positions] = vectors
        if table is None:
            raise InputError("there is no text to encode")
        return table

    def encode_further(self, texts: Sequence[str], state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Vectors (len(texts), dim) of an encoder that is not `per_text`, for items beside those
        that were encoded together.

        Args:
            state: `state` as it was then.

        Raises:
            InputError: it is not there.
        """
        raise NotImplementedError


def token_bar(total: int, name: str, progress: bool) -> tqdm:
    """A progress bar with rate and time left, over tokens: they, not texts, tell the time left."""
    return tqdm(
        total=total,
        desc=f"Encoding with {name}",
        unit=" tokens",
        unit_scale=True,
        disable=None if progress else True,  # None: where the output is no terminal
        dynamic_ncols=True,
    )


def log_truncated(name: str, cut: int, texts: int, max_length: int) -> None:
    """Say how many texts were cut, if any were."""
    if cut:
        logging.getLogger(__name__).warning(
            f"{name}: {cut:,} of {texts:,} texts are longer than {max_length} tokens "
            "and were cut there"
        )
