"""Which encoding a text file is in, where nobody says."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

import charset_normalizer

from dataset_converters.errors import ConversionError

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16, so it is looked for first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD = 1 << 20


def known_encoding(name: str) -> str:
    """The name of an encoding as Python spells it.

    Raises:
        ConversionError: Python does not know it, or it is one of bytes, such as base64.
    """
    try:
        "".encode(name)  # unlike codecs.lookup, this refuses what is no encoding of text
        return codecs.lookup(name).name
    except LookupError:
        raise ConversionError(
            f"--encoding={name}: no such encoding of text; try utf-8, utf-16, latin-1 or cp1252"
        ) from None


def guess_encoding(path: Path, allowed: float) -> str:
    """UTF-16 and UTF-32 by their mark, else UTF-8.

    Raises:
        ConversionError: more than the share `allowed` of the first lines is not UTF-8. Encodings of
            a byte a character differ in a few letters only, so one of them is named, not taken.
    """
    head = head_of(path, _HEAD)
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    lines = head.splitlines()
    if len(head) == _HEAD:
        lines = lines[:-1]  # cut anywhere, perhaps inside a character
    if sum(not _is_utf8(line) for line in lines) <= allowed * len(lines):
        return "utf-8"
    likeliest = charset_normalizer.from_bytes(head).best()
    name = likeliest.encoding if likeliest else "latin-1"
    raise ConversionError(
        f"{path}: not UTF-8; name its encoding, as in --encoding={name} (a guess; latin-1 and "
        "cp1252 are usual for Western European text)"
    )


def head_of(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file, unpacked if gzipped; none if it cannot be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error):  # told by who reads on, with the reason
        return b""


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
