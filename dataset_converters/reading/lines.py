"""Lines out of plain or gzipped files, and a count of those that cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from tqdm import tqdm

from dataset_converters.errors import ConversionError

logger = logging.getLogger(__name__)

MAX_MALFORMED = 0.01  # of the lines of a file, by default
_REPORTED = 5
_EARLY_RECORDS = 1_000_000
_BLOCK = 1 << 23  # bytes read at a time


class Tally:
    """How many records of a file were read, and how many of them could not be used.

    Args:
        path: the file, for messages.
        max_malformed: the share of records, 0 to 1, above which the run stops.
        encoding: of the file's text.
    """

    def __init__(self, path: Path, max_malformed: float, encoding: str = "utf-8") -> None:
        self.path = path
        self.encoding = encoding
        self.line = 0  # number of the current line, from 1
        self.records = 0
        self.malformed = 0
        self._max_share = max_malformed

    def reject(self, reason: object) -> None:
        """Count the current record as malformed; the first few are reported by line number.

        Raises:
            ConversionError: so many are malformed already that reading on is pointless.
        """
        self.malformed += 1
        if self.malformed <= _REPORTED:
            logger.warning("%s: line %d left out: %s", self.path.name, self.line, reason)
        if self.malformed > self._max_share * max(self.records, _EARLY_RECORDS):
            self._stop()

    def finish(self) -> None:
        """Raise ConversionError if more than the allowed share of the records was malformed."""
        if self.malformed > self._max_share * self.records:
            self._stop()
        if self.malformed:
            logger.warning(
                "%s: %d of %d lines are malformed and were left out",
                self.path.name,
                self.malformed,
                self.records,
            )

    def _stop(self) -> None:
        raise ConversionError(
            f"{self.path}: {self.malformed:,} of {self.records:,} lines read are malformed, more "
            f"than the allowed {self._max_share:.2%}; check that it is the right file, or raise "
            "--max_malformed"
        )


def read_lines(tally: Tally) -> Iterator[bytes]:
    """The non-blank lines of the tally's file, with their line ends, each counted.

    Raises:
        ConversionError: the file is missing, damaged or cut short.
    """
    for number, line in enumerate(read_raw_lines(tally.path, tally.encoding), start=1):
        if not line.isspace():
            tally.line = number
            tally.records += 1
            yield line


def read_raw_lines(path: Path, encoding: str = "utf-8") -> Iterator[bytes]:
    """The lines of `path`, gzipped or not, as `read_blocks` gives them."""
    for block in read_blocks(path, encoding):
        yield from io.BytesIO(block)


def read_blocks(path: Path, encoding: str = "utf-8") -> Iterator[bytes]:
    """Whole lines of `path`, gzipped or not, by megabytes, under a progress bar.

    They are UTF-8 as far as the file is: of another `encoding`, lines are brought to UTF-8.

    Raises:
        ConversionError: the file is missing, damaged or cut short.
    """
    try:
        with (
            path.open("rb") as file,
            tqdm(
                total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            rest: list[bytes] = []
            for block in _decoded_blocks(path, file, encoding):
                bar.update(file.tell() - bar.n)
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*rest, block[:cut]))
                    rest.clear()
                rest.append(block[cut:])
            if any(rest):
                yield b"".join(rest)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConversionError(
            f"{path}: the file is damaged or cut short ({error}); delete it and fetch it again"
        ) from error
    except UnicodeError as error:
        raise ConversionError(
            f"{path}: not {encoding} text ({error}); name its encoding with --encoding"
        ) from error
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read ({error.strerror})") from error


def _decoded_blocks(path: Path, file: BinaryIO, encoding: str) -> Iterator[bytes]:
    plain: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
    if encoding == "utf-8":
        yield from iter(lambda: plain.read(_BLOCK), b"")
        return
    text = io.TextIOWrapper(plain, encoding=encoding, newline="")
    for block in iter(lambda: text.read(_BLOCK), ""):
        yield block.encode("utf-8", "replace")


def text_of(line: bytes) -> str:
    """A line as text, without its line end. Raises ValueError if it is not UTF-8."""
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def parse_json_object(line: bytes) -> dict[str, object]:
    """The JSON object on `line`. Raises ValueError if it is anything else."""
    try:
        record = orjson.loads(line)
    except ValueError:  # the standard library takes NaN and lone surrogates
        try:
            record = json.loads(text_of(line))
        except RecursionError as error:
            raise ValueError("not JSON (nested too deeply)") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def find_file(folder: Path, name: str) -> Path | None:
    """`folder/name` or `folder/name.gz`, whichever is there; plain wins."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def file_facts(path: Path) -> dict[str, object]:
    """Name, size in bytes and SHA-256 of a file, for `stats.json`."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as they lie on the disk, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
