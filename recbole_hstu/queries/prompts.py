"""Histories as texts that a language model goes on with (GLoSS, section 3.3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recbole_hstu.data.files.query_file import ITEM_MARK

INSTRUCTION = (
    "A customer bought these items, the oldest first. Name the one item that the customer buys "
    "next, in the same form."
)


def prompt(texts: Sequence[str], instruction: str = INSTRUCTION) -> str:
    """What the model is given: the instruction, the texts of the history, oldest first, and the
    line after which the next item stands."""
    history = "\n".join(f"{ITEM_MARK} {text}" for text in texts)
    return f"{instruction}\n\nPurchase history:\n{history}\n\nNext item:\n"


def answer(text: str) -> str:
    """What the model shall write after a prompt."""
    return f"{ITEM_MARK} {text}"


def histories(rows: Any, config: Any) -> Iterator[tuple[int, list[int], int]]:
    """User, visible items (oldest first) and target of each row of a part of the data."""
    fields = rows[:]
    items = fields[config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]].tolist()
    lengths = fields[config["ITEM_LIST_LENGTH_FIELD"]].tolist()
    users, targets = fields[config["USER_ID_FIELD"]], fields[config["ITEM_ID_FIELD"]]
    for user, row, length, target in zip(
        users.tolist(), items, lengths, targets.tolist(), strict=True
    ):
        yield user, row[:length], target
