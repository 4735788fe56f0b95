"""Python dict literals, one a line, read safely and many times faster than `ast.literal_eval`.

Flat dicts of strings, numbers, True, False, None and lists of these are taken apart by one regular
expression a pair, which accepts a subset of Python's grammar; every other line goes to
`ast.literal_eval`. Nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Collection

# No raw newline and no NUL inside a string: Python refuses both.
_STRING = (
    r"[uU]?(?:'[^'\\\n\r\0]*(?:\\[^\n\r\0][^'\\\n\r\0]*)*'"
    r'|"[^"\\\n\r\0]*(?:\\[^\n\r\0][^"\\\n\r\0]*)*")'
)
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_SCALAR = rf"(?:{_STRING}|{_NUMBER}|True|False|None)"
_VALUE = rf"(?:{_SCALAR}|\[(?:{_SCALAR}(?:, ?{_SCALAR})*)?\])"
_PAIR = re.compile(rf"({_STRING}): ?({_VALUE})(, ?|\}}$)")
_KEY_FORMS = ("u'{}'", "'{}'", 'u"{}"', '"{}"', "U'{}'", 'U"{}"')
_LIST_ITEM = re.compile(_SCALAR)
_NAMES = {"True": True, "False": False, "None": None}


def dict_parser(keys: Collection[str]) -> Callable[[str], dict[str, object]]:
    """A function that takes the values of `keys` out of a dict literal; absent ones are left out.

    What it returns equals `keys` picked out of `ast.literal_eval(line)`, except that a string
    nobody asks for is not decoded, so a bad escape in it does no harm. It raises ValueError, whose
    message says why, for a line that is no dict literal.
    """
    spellings = {form.format(key): key for key in keys for form in _KEY_FORMS}

    def parse(line: str) -> dict[str, object]:
        line = line.strip()
        found: dict[str, object] = {}
        position, end = 1, len(line)
        if line[:1] != "{":
            return _parse_slowly(line, keys)
        while position < end:
            pair = _PAIR.match(line, position)
            if pair is None:
                return _parse_slowly(line, keys)
            source = pair[1]
            if source in spellings:
                found[spellings[source]] = _decode_value(pair[2])
            elif "\\" in source:  # a wanted key may be spelt with an escape
                return _parse_slowly(line, keys)
            position = pair.end()
        # A dict cut off after a comma ends without its brace.
        return found if line[-1] == "}" and end > 1 else _parse_slowly(line, keys)

    return parse


def _parse_slowly(line: str, keys: Collection[str]) -> dict[str, object]:
    value = _literal(line)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where a dict was expected")
    return {key: value[key] for key in keys if key in value}


def _decode_value(source: str) -> object:
    if source[0] == "[":
        return [_decode(item) for item in _LIST_ITEM.findall(source, 1)]
    return _decode(source)


def _decode(source: str) -> object:
    if source in _NAMES:
        return _NAMES[source]
    if source[-1] not in "'\"" or "\\" in source:
        return _literal(source)
    return source[2:-1] if source[0] in "uU" else source[1:-1]


def _literal(source: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape such as \d stays as it stands
            return ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal ({type(error).__name__})") from error
