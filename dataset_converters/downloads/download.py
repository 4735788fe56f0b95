"""Download large files over HTTP: resumed where they broke off, never taken for whole too soon.

A download grows as `{name}.part`, with a note beside it of where it comes from. Only when its
length, its checksum (if known) and its gzip structure are right does it get its name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tqdm import tqdm

from dataset_converters.errors import ConversionError
from dataset_converters.place_lock import place_lock
from dataset_converters.reading.lines import sha256_of

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # in a row without a single new byte
BACKOFF = 1.0  # seconds before the second attempt, doubled each time
TIMEOUT = (15, 60)  # seconds to connect, and between two packets
_BLOCK = 1 << 18
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError)
_ADVICE = (
    "name a mirror by --sources, or fetch the file by hand and give its folder by --raw "
    "(options of python -m dataset_converters)"
)


@dataclass(frozen=True)
class Remote:
    """One file and its addresses, tried in order; length and checksum where they are known."""

    urls: Sequence[str]
    size: int | None = None
    sha256: str | None = None


class _BrokenOffError(Exception):
    """The transfer ended early or answered another range; another attempt may go on."""


def remote_size(remote: Remote) -> int | None:
    """The file's length in bytes, asked of the server if it is not known; None if that is mute."""
    if remote.size is not None:
        return remote.size
    try:
        reply = requests.head(
            remote.urls[0],
            headers={"Accept-Encoding": "identity"},
            allow_redirects=True,
            timeout=TIMEOUT,
        )
        return int(reply.headers["Content-Length"]) if reply.ok else None
    except (*_BROKEN, KeyError, ValueError):
        return None


def download(remote: Remote, target: Path) -> Path:
    """Fetch `remote` to `target`, going on where an earlier call broke off.

    Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY, ...).

    Raises:
        ConversionError: no address gives the file, what it gives is damaged, or `target` cannot be
            written.
    """
    with place_lock(target), _session() as session:
        if target.exists():  # another process was faster
            return target
        for number, url in enumerate(remote.urls, start=1):
            try:
                part = _fetch(session, url, target)
                _verify(part, url, remote)
                part.replace(target)
                _note_of(target).unlink(missing_ok=True)
                return target
            except ConversionError as error:
                if number == len(remote.urls):
                    raise
                logger.warning("%s; trying the next address", error)
    raise ConversionError(f"{target.name}: no address is given for it; {_ADVICE}")


def public(url: str) -> str:
    """The address without the user name, password and query that may stand in it."""
    return urllib3.util.parse_url(url)._replace(auth=None, query=None, fragment=None).url


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _session() -> requests.Session:
    """Asks a busy server again, as late as it says; broken connections are `_fetch`'s to mend."""
    session = requests.Session()
    retry = urllib3.Retry(
        total=ATTEMPTS - 1,
        connect=0,
        read=0,
        backoff_factor=BACKOFF,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _fetch(session: requests.Session, url: str, target: Path) -> Path:
    """Transfer all of `url` into the partial file, in as many attempts as make progress."""
    part = _part_of(target)
    idle, reached = 0, _length(part)
    while True:
        try:
            _transfer(session, url, target)
            return part
        except (*_BROKEN, _BrokenOffError) as error:
            idle = 0 if _length(part) > reached else idle + 1
            reached = max(reached, _length(part))
            if idle >= ATTEMPTS:
                raise ConversionError(
                    f"{public(url)}: gave up after {ATTEMPTS} attempts ({_reason(error)}); "
                    f"run again to go on from byte {_length(part):,}, or {_ADVICE}"
                ) from error
            logger.warning("%s: %s; trying again", public(url), _reason(error))
            time.sleep(BACKOFF * 2 ** (idle - 1) if idle else 0)


def _transfer(session: requests.Session, url: str, target: Path) -> None:
    """One request: append to the partial file if the server goes on with it, else start anew."""
    part, note = _part_of(target), _read_note(target, url)
    have = _length(part) if note else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code == 416 and have == note.get("size"):
            return
        if reply.status_code in (206, 416) and not _goes_on(reply, have, note):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server answered with another part than asked for")
        if reply.status_code not in (200, 206):
            raise ConversionError(f"{public(url)}: the server answers {_status(reply)}; {_ADVICE}")
        if reply.status_code == 200:
            have = 0
        size = have + int(reply.headers["Content-Length"]) if _has_length(reply) else None
        _require_space(part, size, have)
        with part.open("ab" if have else "wb") as file:
            _write_note(target, {"url": _digest(url), "size": size, "validator": _validator(reply)})
            bar = tqdm(
                desc=target.name, total=size, initial=have, unit="B", unit_scale=True, disable=None
            )
            with bar:
                for block in reply.raw.stream(_BLOCK, decode_content=False):
                    bar.update(file.write(block))
    if size is not None and _length(part) != size:
        raise _BrokenOffError(f"ended at byte {_length(part):,} of {size:,}")


def _goes_on(reply: requests.Response, have: int, note: dict) -> bool:
    expected = f"bytes {have}-"
    given = reply.headers.get("Content-Range", "")
    same_size = note["size"] is None or given.endswith((f"/{note['size']}", "/*"))
    return reply.status_code == 206 and given.startswith(expected) and same_size


def _has_length(reply: requests.Response) -> bool:
    return reply.headers.get("Content-Length", "").isdecimal()


def _validator(reply: requests.Response) -> str | None:
    etag = reply.headers.get("ETag", "")
    return etag if etag.startswith('"') else reply.headers.get("Last-Modified")


def _verify(part: Path, url: str, remote: Remote) -> None:
    problem = None
    if remote.size is not None and _length(part) != remote.size:
        problem = f"{_length(part):,} bytes where {remote.size:,} are expected"
    elif remote.sha256 is not None and sha256_of(part) != remote.sha256:
        problem = "its SHA-256 is not the known one"
    elif url.endswith(".gz"):
        problem = _gzip_problem(part)
    if problem:
        part.unlink()
        raise ConversionError(
            f"{public(url)}: what came is not the whole file ({problem}); {_ADVICE}"
        )


def _gzip_problem(path: Path) -> str | None:
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return str(error)
    return None


def _require_space(part: Path, size: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - have > free:
        raise ConversionError(
            f"{part.parent}: {(size - have) / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB free"
        )


def _read_note(target: Path, url: str) -> dict:
    """What the partial file is a part of; empty if it cannot be gone on with."""
    try:
        note = json.loads(_note_of(target).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if note.get("url") == _digest(url) and _part_of(target).exists() else {}


def _write_note(target: Path, note: dict) -> None:
    _note_of(target).write_text(json.dumps(note), encoding="utf-8")


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _note_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _status(reply: requests.Response) -> str:
    return f"{reply.status_code} {reply.reason}".strip()


def _reason(error: Exception) -> str:
    """The innermost reason in one line: what failed, without the address it was to reach."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", None) or error)
    return " ".join(text.split())[:200] or type(error).__name__
