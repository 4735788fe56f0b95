"""Which rows a side-feature file must have, and whether the one that is there will do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recbole_hstu.data.files.item_rows import PADDING, NotUsable
from recbole_hstu.data.files.side_feature_file import TextHeader, read_text_header, text_hash
from recbole_hstu.encoders.base import Encoder
from recbole_hstu.encoders.options import TextOptions
from recbole_hstu.support.errors import InputError, first_ten

logger = logging.getLogger(__name__)


class WantedRows:
    """The rows that items need today.

    A fit on the texts is always one on all of them, so that a filtered data set, which asks for
    fewer items, has the same vectors.

    Args:
        known: the text of every item, "" for one without.
        tokens: the items that are asked for ("[PAD]" may be among them); None: all.
        options: `text_missing` says what an item without text gets.
        encoder: its class.

    Attributes:
        texts: of the items that need a row.
        revision: see `Encoder.known_revision`.
        zeros: whether there are items without text, known or asked for, that have no row, by
            `text_missing: zero`.

    Raises:
        InputError: an item without text, and `text_missing` is error.
    """

    def __init__(
        self,
        known: Mapping[str, str],
        tokens: Sequence[str] | np.ndarray | None,
        options: TextOptions,
        encoder: type[Encoder],
    ):
        self._known, self._options, self._per_text = known, options, encoder.per_text
        self.revision = encoder.known_revision(options)
        asked = list(known) if tokens is None else [str(t) for t in tokens if t != PADDING]
        lack = not all(known.values()) or not all(map(known.get, asked))
        self.zeros = options.text_missing == "zero" and lack
        self.texts = _texts_of(known, asked, options.text_missing)
        if not self._per_text:
            self.texts = {**self._corpus(), **self.texts}

    def check(self, path: Path) -> tuple[TextHeader | None, str | None]:
        """The header of a file made with these options, and why the file will not do (None: it
        does).

        Raises:
            InputError: the file is there and is not a side-feature file.
        """
        if not path.exists():
            return None, f"{path} is not there"
        try:
            header = read_text_header(path)
        except NotUsable as error:  # nobody named it: the name is one that `file_name` gives
            raise InputError(f"{error.what}; delete it, and it is made anew") from error
        made = header.provenance
        if made.get("options") != self._options.decisive:
            return None, f"{path} was made with other options"
        if self.revision not in (None, made["revision"], made.get("requested_revision")):
            return None, f"{path} was made with revision {made['revision']}, not {self.revision}"
        hashes = _row_hashes(header)
        changed = sum(hashes.get(token) != text_hash(text) for token, text in self.texts.items())
        if changed:
            what = f"{changed:,} of {len(self.texts):,} items"
            return header, f"{what} are new in {path} or have a new text"
        surplus = self._too_many(hashes)
        return header, f"{path} has rows of {surplus:,} items without text" if surplus else None

    def to_keep(self, header: TextHeader) -> dict[str, str]:
        """Items that were not asked for and whose rows stay in the file nevertheless."""
        hashes = _row_hashes(header)
        return {t: text for t, text in self._corpus().items() if hashes.get(t) == text_hash(text)}

    def _corpus(self) -> dict[str, str]:
        empty = self._options.text_missing == "empty"
        return {token: text for token, text in self._known.items() if text or empty}

    def _too_many(self, hashes: Mapping[str, bytes]) -> int:
        """How many rows a file would not have if it were made today, and which change something: a
        vector where `text_missing` says zeros, a text that a fit was made on and that is gone."""
        without = [row for token, row in hashes.items() if not self._known.get(token)]
        if self.zeros:
            return len(without)
        return 0 if self._per_text else sum(row != text_hash("") for row in without)


def _texts_of(known: Mapping[str, str], asked: Sequence[str], missing: str) -> dict[str, str]:
    """The text of every item that is asked for; items without one as `text_missing` says."""
    texts = {name: known.get(name, "") for name in asked}
    empty = [name for name, text in texts.items() if not text]
    if not empty:
        return texts
    what = f"{len(empty):,} of {len(texts):,} items have no text: {first_ten(empty)}"
    if missing == "error":
        raise InputError(f"{what}; add it to the .item file, or set text_missing: empty (or zero)")
    if missing == "empty":
        logger.warning("%s; they are encoded as the empty text", what)
        return texts
    logger.warning("%s; they have no row, which reads as zeros", what)
    return {name: text for name, text in texts.items() if text}


def _row_hashes(header: TextHeader) -> dict[str, bytes]:
    return dict(zip(header.tokens, map(bytes, header.text_hashes), strict=True))
