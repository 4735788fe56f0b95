"""The text options, their defaults and their checks, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recbole_hstu.config.options import read_declarations
from recbole_hstu.support.errors import InputError
from recbole_hstu.support.files.installed import PROPERTIES
from recbole_hstu.support.secrets import MASK, masked

_DECLARED = read_declarations(PROPERTIES / "model" / "TextModel.yaml")

# What an option left at None means; it depends on the encoder.
ENCODER_DEFAULTS: dict[str, dict[str, Any]] = {
    "lsa": {"text_dimensions": 256},
    "huggingface": {
        "text_model": "hyp1231/blair-roberta-base",
        "text_max_length": 512,
        "text_batch_size": 64,
    },
    "openai": {
        "text_model": "text-embedding-3-large",
        "text_max_length": 8191,
        "text_batch_size": 2048,
        "text_dimensions": 768,
    },
}

# The options that decide a vector's value, by encoder: those a file is recognised by.
_VALUE = {
    "lsa": ("text_dimensions",),
    "huggingface": ("text_model", "text_pooling", "text_max_length", "text_dtype"),
    "openai": ("text_model", "text_dimensions", "text_max_length", "text_base_url"),
}

# The options that would shape a vector elsewhere, but not here: another value than the default is
# refused rather than ignored.
_IDLE = {
    "lsa": {
        *("text_model", "text_revision", "text_max_length", "text_base_url"),
        *("text_pooling", "text_dtype"),
    },
    "huggingface": {"text_dimensions", "text_base_url"},
    "openai": {"text_revision", "text_pooling", "text_dtype"},
}


@dataclass(frozen=True)
class TextOptions:
    """Options of the text encoders, flat as in RecBole's YAML; None: the encoder's default.

    Attributes:
        text_encoder: lsa, huggingface or openai.
        text_model: name on the Hugging Face hub, local folder, or name of the API's model.
        text_revision: commit, branch or tag of a model on the hub.
        text_pooling: cls (the first token, as BLaIR) or mean (over the tokens of a text).
        text_max_length: tokens of a text, special tokens included; the rest is cut off and
            counted (huggingface 512, openai 8191).
        text_batch_size: texts a batch or request, at most (huggingface 64, openai 2048).
        text_dtype: the model computes in float32, float16 or bfloat16.
        text_device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
        text_normalize: scale every vector to length 1.
        text_dimensions: width of a vector (lsa 256, OpenAI's text-embedding-3 models 768); any
            other model's own.
        text_base_url: of a server that speaks OpenAI's API; else OPENAI_BASE_URL, else OpenAI's.
            Where its secrets were masked, as in all that a run keeps, OPENAI_BASE_URL gives them.
        text_storage_dtype: of the vectors on disk; models compute in float32.
        text_missing: an item without text is encoded as the empty text and counted (empty),
            stops the run (error), or has a zero row and is counted (zero).
    """

    text_encoder: str = "lsa"
    text_model: str | None = None
    text_revision: str | None = None
    text_pooling: str = "cls"
    text_max_length: int | None = None
    text_batch_size: int | None = None
    text_dtype: str = "float32"
    text_device: str = "auto"
    text_normalize: bool = False
    text_dimensions: int | None = None
    text_base_url: str | None = None
    text_storage_dtype: str = "float32"
    text_missing: str = "empty"

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> TextOptions:
        """Take the text options out of a configuration and fill in the encoder's defaults.

        Args:
            config: any mapping, RecBole's Config included; other keys are left alone, a missing
                key or None is the default.

        Raises:
            InputError: a value of the wrong kind, or one that the encoder cannot heed.
        """
        given = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            _check(name, value)
        encoder = given.get("text_encoder", cls.text_encoder)
        idle = sorted(n for n in given.keys() & _IDLE[encoder] if given[n] != getattr(cls, n))
        if idle:
            raise InputError(
                f"{', '.join(idle)}: means nothing to text_encoder {encoder}; "
                "remove it or choose another encoder"
            )
        own = os.environ.get("OPENAI_BASE_URL")
        if encoder == "openai" and own and _stands_for(given.get("text_base_url"), own):
            given["text_base_url"] = own
            _check("text_base_url", own)
        options = cls(**{**ENCODER_DEFAULTS[encoder], **given})
        shortens = str(options.text_model).startswith("text-embedding-3")
        if encoder == "openai" and "text_dimensions" not in given and not shortens:
            return replace(options, text_dimensions=None)
        return options

    @property
    def is_local(self) -> bool:
        """Whether `text_model` is a folder on this machine."""
        return (
            self.text_encoder == "huggingface"
            and self.text_model is not None
            and Path(self.text_model).expanduser().is_dir()
        )

    @property
    def model_name(self) -> str | None:
        """The model as files and messages call it: a folder by its name, not by its place."""
        if self.is_local and self.text_model is not None:
            return Path(self.text_model).expanduser().resolve().name
        return self.text_model

    @property
    def decisive(self) -> dict[str, Any]:
        """The options that decide what is in a side-feature file."""
        names = (*_VALUE[self.text_encoder], "text_normalize", "text_storage_dtype")
        values = {
            **asdict(self),
            "text_model": self.model_name,
            "text_base_url": public_url(self.text_base_url),
        }
        return {name: values[name] for name in ("text_encoder", *names)}

    @property
    def is_default(self) -> bool:
        """Whether every decisive option but the encoder and model is the encoder's default."""
        plain = TextOptions.from_mapping(
            {"text_encoder": self.text_encoder, "text_model": self.text_model}
        )
        own = (self.text_revision, self.text_base_url)
        return self.decisive == plain.decisive and own == (None, None)


def public_url(url: str | None) -> str | None:
    """The address without the user name, password and query that may stand in it."""
    if url is None:
        return None
    parts = urlsplit(masked(url))
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl().rstrip("/")


def _stands_for(recorded: str | None, address: str) -> bool:
    """Whether nothing is recorded, or this address with its secrets masked."""
    if recorded is None:
        return True
    return MASK in recorded and public_url(recorded) == public_url(address)


def _check(name: str, value: Any) -> None:
    _DECLARED[name].check(value)
    if value == "":
        raise InputError(f"{name}: {value!r} must be a text")
    if name == "text_base_url" and not _is_address(value):
        shown = f"{public_url(value)!r} " if _splits(value) else ""
        raise InputError(f"{name}: {shown}is no address such as https://localhost:8000/v1")


def _is_address(text: str) -> bool:
    """Whether it is one of http with a host and, if it names one, a port."""
    return _splits(text) and urlsplit(text).scheme in ("http", "https")


def _splits(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
