"""The publishers' files: found on the disk, or downloaded into a cache."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import urllib3
import yaml

from dataset_converters.downloads.download import Remote, download, public, remote_size
from dataset_converters.errors import ConversionError
from dataset_converters.reading.lines import find_file

logger = logging.getLogger(__name__)

_KEYS = {"urls": list, "file": str, "bytes": int, "sha256": str}  # of an entry of sources.yaml


@dataclass
class Fetcher:
    """Finds raw files in `raw` if that is given; else keeps downloads in `cache`.

    Args:
        raw: the folder of files already there; then nothing is ever downloaded.
        cache: the folder of downloaded files, one sub-folder a source.
        offline: use what the cache has and make no request.
        sources: a YAML file whose entries replace those of `sources.yaml`.
    """

    raw: Path | None
    cache: Path
    offline: bool = False
    sources: Path | None = None
    _entries: dict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._entries = _load_entries(self.sources)
        if self.raw is not None and not self.raw.is_dir():
            raise ConversionError(f"{self.raw}: no such folder (given by --raw)")

    def announce(self, source: str, kinds: Sequence[str], category: str = "") -> None:
        """Log which files will be downloaded and how large they are."""
        if self.raw is not None or self.offline:
            return
        missing = [
            k
            for k in kinds
            if find_file(self.cache / source, self._file(source, k, category)) is None
        ]
        for kind in missing:
            remote = self._remote(source, kind, category)
            size = remote_size(remote)
            known = f"{size / 1e6:,.1f} MB" if size is not None else "size unknown"
            place = self.cache / source
            logger.info(f"downloading {public(remote.urls[0])} ({known}) to {place}")

    def get(self, source: str, kind: str, category: str = "") -> Path:
        """The path of one file, downloaded if need be.

        Raises:
            ConversionError: the file is neither there nor to be had.
        """
        name = self._file(source, kind, category)
        folder = self.raw if self.raw is not None else self.cache / source
        found = find_file(folder, name)
        if found is not None:
            return found
        remote = self._remote(source, kind, category)
        if self.raw is not None:
            raise ConversionError(
                f"{folder}: neither {name} nor {name}.gz is there; leave out --raw to download it"
            )
        if self.offline:
            raise ConversionError(
                f"{folder}: {name}.gz is missing and offline use is asked for; fetch "
                f"{public(remote.urls[0])} elsewhere and put it there"
            )
        suffix = ".gz" if remote.urls[0].endswith(".gz") else ""
        return download(remote, folder / (name + suffix))

    def _file(self, source: str, kind: str, category: str) -> str:
        return self._entries[source][kind]["file"].format(category=category)

    def _remote(self, source: str, kind: str, category: str) -> Remote:
        entry = self._entries[source][kind]
        urls = [url.format(category=category) for url in entry["urls"]]
        return Remote(urls, entry.get("bytes"), entry.get("sha256"))


def _load_entries(extra: Path | None) -> dict:
    text = (
        resources.files("dataset_converters.downloads").joinpath("sources.yaml").read_text("utf-8")
    )
    entries = yaml.safe_load(text)
    if extra is None:
        return entries
    try:
        given = yaml.safe_load(extra.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConversionError(f"{extra}: cannot be read as YAML ({_first_line(error)})") from error
    for source, kinds in given.items() if isinstance(given, dict) else [("", None)]:
        for kind, entry in kinds.items() if isinstance(kinds, dict) else [("", None)]:
            if kind not in entries.get(source, {}) or not isinstance(entry, dict):
                raise ConversionError(
                    f"{extra}: '{source}: {kind}:' is none of the known entries: "
                    + ", ".join(f"{s}: {k}" for s in entries for k in entries[s])
                )
            wrong = _wrong(entry)
            if wrong:
                raise ConversionError(f"{extra}: '{source}: {kind}:' {wrong}")
            entries[source][kind] |= entry
    return entries


def _wrong(entry: dict) -> str:
    """What is wrong with an entry of --sources; empty if nothing is."""
    urls = entry.get("urls", [])
    if "urls" in entry and not (isinstance(urls, list) and urls and all(map(_is_url, urls))):
        return "urls must be a list of http:// or https:// addresses"
    for key, value in entry.items():
        if key not in _KEYS:
            return f"{key}: unknown; known are {', '.join(_KEYS)}"
        if not isinstance(value, _KEYS[key]):
            return f"{key}: {value!r} is no {_KEYS[key].__name__}"
    try:
        [text.format(category="") for text in (*urls, entry.get("file", ""))]
    except (LookupError, ValueError):
        return "may hold no braces but those of {category}"
    return ""


def _is_url(text: object) -> bool:
    if not isinstance(text, str) or not text.startswith(("http://", "https://")):
        return False
    try:  # as `public` will; a "/" in a password has to be written %2F
        return bool(urllib3.util.parse_url(text).host)
    except urllib3.exceptions.LocationParseError:
        return False


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
