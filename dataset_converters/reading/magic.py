"""Files that are no text whatever their name says, known by their first bytes."""

from __future__ import annotations

from pathlib import Path

from dataset_converters.errors import ConversionError
from dataset_converters.reading.encodings import head_of

_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as .xlsx files are; save the sheet as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an Office file, as .xls files are; save the sheet as CSV",
    b"PAR1\x15": "Parquet; give the file a name that ends in .parquet",
}


def require_text(path: Path) -> None:
    """Raise ConversionError if a file, unpacked where its name ends in .gz, is known to be no text.

    One that cannot be read is left to who reads on, with the reason.
    """
    head = head_of(path, 8)
    if head.startswith(_GZIP):
        twice = "packed twice with gzip; unpack it once"
        once = f"packed with gzip; name it {path.name}.gz"
        raise ConversionError(f"{path}: {twice if path.suffix == '.gz' else once}")
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            raise ConversionError(f"{path}: no text but {what}")
