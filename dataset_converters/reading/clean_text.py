"""Item texts: whatever the source holds becomes one line of single-spaced words."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<[^>]+>")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
PADDING = "[PAD]"  # RecBole's name for no user and no item
_NOT_IN_TOKENS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def plain_text(value: object) -> str:
    """One line of text: whitespace and control characters become single spaces.

    A list is joined by ", ", empty entries left out; None is the empty text. Lone surrogates, which
    no UTF-8 file can hold, become U+FFFD.
    """
    if isinstance(value, list):
        return ", ".join(text for text in map(plain_text, value) if text)
    if value is None:
        return ""
    return _SURROGATE.sub("\ufffd", _one_line(str(value)))


def amazon_text(value: object) -> str:
    """Text as HSTU-BLaIR's encoder was trained on: entities unescaped, tags removed, ASCII only.

    Every non-ASCII character becomes a space; lists and whitespace are treated as in `plain_text`.
    """
    if isinstance(value, list):
        return ", ".join(text for text in map(amazon_text, value) if text)
    if value is None:
        return ""
    text = _TAG.sub("", html.unescape(str(value)))
    return _one_line(_NON_ASCII.sub(" ", text))


def is_clean_token(token: str) -> bool:
    """Whether `token` can stand as an id: not empty, not RecBole's padding, no control character,
    encodable as UTF-8."""
    return token not in ("", PADDING) and not _NOT_IN_TOKENS.search(token)


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())
