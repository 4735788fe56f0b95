"""What LoRA weights were learned from: a file beside them, so that none are taken for others."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_hstu.config.config import Config
from recbole_hstu.support.errors import InputError, in_a_line

FILE = "learned_from.json"
# What decides how queries are written, not what is learned; and the size of batches, which decides
# both: writing may need smaller ones.
_OF_WRITING = ("adapter", "beams", "new_tokens", "llm_batch_size")

logger = logging.getLogger(__name__)


def learned_from(own: Mapping[str, Any], config: Config, texts: Sequence[str]) -> dict[str, Any]:
    """All that decides the weights but the size of batches, as plain JSON values.

    Args:
        own: options of the language model.
        texts: that it learns from, or would.
    """
    split = config.plain()["eval_args"]["split"]
    data = {"dataset": config["dataset"], "protocol": config["protocol"], "split": split}
    options = {name: value for name, value in own.items() if name not in _OF_WRITING}
    source = Path(str(own["llm"]))
    options["llm"] = source.resolve().name if source.is_dir() else str(own["llm"])
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    return {**data, "seed": config["seed"], **options, "hash of the texts": digest}


def check_learned_from(folder: str | Path, now: Mapping[str, Any]) -> None:
    """Refuse weights that were learned from something else; that they are taken is logged.

    Raises:
        InputError: they were, or what they were learned from cannot be read.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        logger.warning(
            "adapter: %s is read, nothing is learned; it does not say what it was learned from",
            folder,
        )
        return
    try:
        before = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"adapter: {file}: cannot be read: {in_a_line(error)}") from error
    other = [
        f"{key} {before.get(key)}, not {now[key]}" for key in now if before.get(key) != now[key]
    ]
    if other:
        raise InputError(
            f"adapter: {folder}: was learned with {'; '.join(other)}; name a new folder, or give "
            "the data and options that it was learned with"
        )
    logger.info("adapter: %s is read, nothing is learned", folder)
