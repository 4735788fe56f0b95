"""Addresses without the secrets that stand in them: for whatever is shown or kept."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MASK = "***"
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}"  # one slash: an address that was taken for a path
_IN_TEXT = re.compile(rf"{_SCHEME}[^\s\x00-\x1f\"'<>]+")
# `user:password@`; second, with a password that should have been percent-encoded (`a/b`).
_USER = re.compile(r"[^/?#]*@|(?!\[)[^/?#@:]*:(?!\d*(?:[/?#]|$)).*@", re.DOTALL)
_PARAMETER = re.compile(r"[^&;]+")


def masked(value: Any) -> Any:
    """The value, every address in it without passwords and values of its query.

    `https://me:x@host/v1?key=y` becomes `https://***@host/v1?key=***`. The user of a database stays
    (`postgresql://me:***@host/db`), that of a web server does not: it may be a token. Mappings,
    lists, tuples and sets are copied, all else is handed back as it is.
    """
    if isinstance(value, str):
        if re.match(_SCHEME, value):  # whatever follows belongs to it
            return _masked_url(value)
        return _IN_TEXT.sub(lambda found: _masked_url(found[0]), value)
    if isinstance(value, Mapping):
        return {key: masked(inner) for key, inner in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(masked(inner) for inner in value)
    return value


def _masked_url(url: str) -> str:
    scheme = re.match(_SCHEME, url)
    assert scheme is not None
    before, rest = url[: scheme.end()], url[scheme.end() :]
    user = _USER.match(rest)
    if user:
        name, colon, _ = user[0][:-1].partition(":")
        web = scheme[1].lower() in ("http", "https")
        shown = MASK if web else f"{name}{colon}{MASK if colon else ''}"
        before, rest = f"{before}{shown}@", rest[user.end() :]
    rest, hash_, fragment = rest.partition("#")
    path, question, query = rest.partition("?")
    if "=" in fragment:
        fragment = _PARAMETER.sub(_masked_parameter, fragment)
    query = _PARAMETER.sub(_masked_parameter, query)
    return f"{before}{path}{question}{query}{hash_}{fragment}"


def _masked_parameter(found: re.Match[str]) -> str:
    name, equals, _ = found[0].partition("=")
    return f"{name}={MASK}" if equals else MASK


class MaskSecrets(logging.Filter):
    """Masks what a handler writes: other libraries log addresses, too."""

    def filter(self, record: logging.LogRecord) -> bool:
        with suppress(TypeError, ValueError):  # a message that does not fit its arguments
            record.msg, record.args = masked(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = masked(record.exc_text)
        return True
