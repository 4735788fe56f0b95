"""From a data set's `.item` file to its side-feature file: the one way in."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recbole_hstu import __version__
from recbole_hstu.data.files.atomic_file import form_of, read_header
from recbole_hstu.data.files.item_text import ItemText, read_item_texts
from recbole_hstu.data.files.side_feature_file import write_text_features
from recbole_hstu.encoders.base import Encoder
from recbole_hstu.encoders.options import ENCODER_DEFAULTS, TextOptions
from recbole_hstu.encoders.vector_cache import encode_texts
from recbole_hstu.encoders.wanted_rows import WantedRows
from recbole_hstu.support.errors import InputError, in_a_line
from recbole_hstu.support.files.file_lock import one_at_a_time

_CLASSES = {
    "lsa": "LSAEncoder",
    "huggingface": "HuggingFaceEncoder",
    "openai": "OpenAIEncoder",
}

logger = logging.getLogger(__name__)


def build_encoder(options: TextOptions) -> Encoder:
    """The encoder that `text_encoder` names; this loads its library and its model.

    Raises:
        InputError: a library that is not installed, a model that is not there.
    """
    return _encoder_class(options)(options)


def ensure_text_features(
    dataset: str,
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    tokens: Sequence[str] | np.ndarray | None = None,
    output_folder: str | Path | None = None,
) -> Path:
    """The data set's side-feature file, encoded now if it is missing or stale.

    A file is taken as it is when it was made with the same options and has, for every item that
    is asked for, a row made from the text that the item has today.

    Args:
        dataset: the data set's name; `{folder}/{dataset}.item` is read.
        folder: of the atomic files; only read when `output_folder` is given.
        config: `text_*` options (see `TextOptions`), the data set's `item_text`, and RecBole's
            ITEM_ID_FIELD, field_separator and show_progress where they differ from the defaults.
        tokens: the items that need a row ("[PAD]" may be among them); None: all of the file.
        output_folder: where the file goes, `folder` by default.

    Returns:
        The path of the file.

    Raises:
        InputError: anything that keeps the file from being made; what was encoded is kept.
    """
    options = TextOptions.from_mapping(config)
    items = Path(folder) / f"{dataset}.item"
    item_text, known = _item_texts(items, config)
    wanted = WantedRows(known, tokens, options, _encoder_class(options))
    path = Path(output_folder or folder) / file_name(dataset, options, wanted)
    if wanted.check(path)[1] is None:
        logger.info("text features: %s", path)
        return path
    with _locked(path):
        header, stale = wanted.check(path)
        if stale is None:  # whoever was here before has made it
            return path
        logger.info("text features: %s; encoding with %s", stale, options.model_name or "lsa")
        texts = {**(wanted.to_keep(header) if header else {}), **wanted.texts}
        progress = config.get("show_progress") is not False
        _encode_and_write(path, texts, options, item_text, progress=progress)
    return path


def _item_texts(path: Path, config: Mapping[str, Any]) -> tuple[ItemText, dict[str, str]]:
    form = form_of({"field_separator": None, "encoding": None, **config})
    form["item_field"] = config.get("ITEM_ID_FIELD") or "item_id"
    given = config.get("item_text")
    columns = _text_columns(path, **form) if given is None and path.is_file() else ()
    item_text = ItemText.from_property(given, columns)
    return item_text, read_item_texts(path, item_text, **form)


def _text_columns(path: Path, *, item_field: str, separator: str, encoding: str) -> list[str]:
    header = read_header(path, separator=separator, encoding=encoding)
    pairs = [column.partition(":") for column in header]
    return [name for name, _, kind in pairs if kind.startswith("token") and name != item_field]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a side-feature file against other processes and machines, waiting until it is free.

    The lock lies beside the file: machines may share the data and not the cache.

    Raises:
        InputError: the folder cannot be written.
    """
    lock_file = path.with_name(f".{path.name}.lock")
    waiting = f"{path} is being made by another process; waiting for it to end"
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(one_at_a_time(lock_file, waiting))
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be written ({in_a_line(error)})") from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows: an open file stays until it is closed
                lock_file.unlink()


def _encode_and_write(
    path: Path,
    texts: Mapping[str, str],
    options: TextOptions,
    item_text: ItemText,
    *,
    progress: bool,
) -> None:
    encoder = build_encoder(options)
    vectors = encode_texts(encoder, list(texts.values()), progress=progress)
    vectors = scaled(vectors, options)
    provenance = _provenance(encoder, options, item_text)
    storage: Any = options.text_storage_dtype
    write_text_features(
        path, texts, vectors, provenance, encoder_state=encoder.state, storage_dtype=storage
    )
    logger.info("text features: wrote %s, %s items x %s", path, *vectors.shape)


def scaled(vectors: np.ndarray, options: TextOptions) -> np.ndarray:
    """Vectors (n, dim) of length 1 if `text_normalize` is on; zeros stay zeros."""
    if not options.text_normalize:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0.0, 1.0, lengths)


def file_name(dataset: str, options: TextOptions, wanted: WantedRows) -> str:
    """`{dataset}.{encoder}.safetensors`; options of one's own give a file of their own.

    The encoder part is lsa, or tells the model from all others, followed by a hash where an option
    that decides a vector is not the default: files with other options lie beside each other.

    Args:
        wanted: tells folders apart, and files in which items lack a row that others have.
    """
    label = _model_label(options, wanted.revision)
    if wanted.zeros:
        label += "-zero"
    if not options.is_default:
        record = json.dumps([options.decisive, options.text_revision], sort_keys=True)
        label += "-" + hashlib.sha256(record.encode()).hexdigest()[:8]
    return f"{dataset}.{label}.safetensors"


def _model_label(options: TextOptions, revision: str | None) -> str:
    """The default model goes by the last part of its name, others by the whole of it, a folder by
    its name and a hash of what is in it."""
    encoder, model = options.text_encoder, options.model_name
    if model is None:
        return encoder
    if options.is_local:
        return f"{model}-{str(revision).rpartition(':')[2][:8]}"
    if model == ENCODER_DEFAULTS[encoder]["text_model"]:
        return model.rpartition("/")[2]
    return re.sub(r"[^\w.-]", "-", model.replace("/", "--"))


def _encoder_class(options: TextOptions) -> type[Encoder]:
    module = importlib.import_module(f"recbole_hstu.encoders.{options.text_encoder}")
    return getattr(module, _CLASSES[options.text_encoder])


def _provenance(encoder: Encoder, options: TextOptions, item_text: ItemText) -> dict[str, Any]:
    return {
        "encoder": encoder.name,
        "revision": encoder.revision,
        "requested_revision": options.text_revision,
        "options": options.decisive,
        "item_text": asdict(item_text),
        "max_length": options.text_max_length,
        "normalized": options.text_normalize,
        "version": __version__,
    }
