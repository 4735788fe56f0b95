"""Any transformers encoder, by its name on the Hugging Face hub or from a local folder.

The default is BLaIR (`hyp1231/blair-roberta-base`): the last hidden state of the first token, at
most 512 tokens, not normalised.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_hstu.encoders.base import Batch, Encoder, log_truncated, token_bar
from recbole_hstu.encoders.options import TextOptions
from recbole_hstu.support.errors import InputError, in_a_line, packages_needed

LENGTH_STEP = 16
BATCH_TOKENS = 4096
_TOKENIZE = 1000  # texts at a time
_SAME = 1e-5  # of the largest number: states that differ by less are one
_MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "vocab*", "merges*")
_WHO = "text_encoder huggingface (lsa needs nothing)"

logger = logging.getLogger(__name__)


class HuggingFaceEncoder(Encoder):
    """A transformers model and its tokenizer.

    The shape of a batch follows from the length of its texts alone: lengths are padded up to a
    multiple of 16 tokens, texts of one such length share batches, and a batch that is not full is
    filled with copies. A text so goes through the same arithmetic whoever its neighbours are, and
    its vector has the same bits in any batch (on one device, with one `text_batch_size`).

    Raises:
        InputError: transformers is not installed; the model is not there, is not an encoder,
            lacks weights, or sees nothing at the token that is asked for; the device is not there.
    """

    def __init__(self, options: TextOptions) -> None:
        with packages_needed(_WHO, "text"):
            import transformers
        source, self.revision = _locate(options)
        self.name = options.model_name or ""
        self._tokenizer, self._model = _load(transformers, source, self.revision, options)
        self._pad = self._tokenizer.pad_token_id or 0
        self._device = _device(options)
        dtype = getattr(torch, options.text_dtype)
        try:
            self._model.eval().requires_grad_(False).to(device=self._device, dtype=dtype)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"text_device {self._device}: {_line(error)}") from error
        self._pooling = options.text_pooling
        self._max_length = _max_length(self._tokenizer, self._model, options)
        self._batch_size = options.text_batch_size or 1
        self.identity = {
            "encoder": "huggingface",
            "model": None if options.is_local else options.text_model,
            "revision": self.revision,
            "pooling": self._pooling,
            "max_length": self._max_length,
            "dtype": options.text_dtype,
        }
        if self._pooling == "cls":
            self._refuse_blind_first_token()

    @classmethod
    def known_revision(cls, options: TextOptions) -> str | None:
        """The revision asked for; of a folder, the hash of what is in it."""
        if options.is_local:
            return _folder_hash(Path(str(options.text_model)).expanduser())
        return options.text_revision

    def prepare(self, texts: Sequence[str]) -> list[str]:
        """The texts as they are; those that will be cut are counted, vectors kept from before
        included."""
        cut = 0
        # A token has a byte at least, and two mark the ends: the others cannot be too long.
        long = [text for text in texts if len(text.encode()) + 2 > self._max_length]
        for start in range(0, len(long), _TOKENIZE):
            part = long[start : start + _TOKENIZE]
            whole = self._tokenizer(part, truncation=False, verbose=False)["input_ids"]
            cut += sum(len(row) > self._max_length for row in whole)
        log_truncated(self.name, cut, len(texts), self._max_length)
        return list(texts)

    def batches(self, texts: Sequence[str], *, progress: bool = True) -> Iterator[Batch]:
        """See `Encoder.batches`; the longest texts come first, so that memory runs out at once."""
        ids = self._tokenize(texts)
        widths = np.array([-(-len(row) // LENGTH_STEP) * LENGTH_STEP for row in ids], dtype=int)
        widths = np.minimum(widths, -(-self._max_length // LENGTH_STEP) * LENGTH_STEP)
        with token_bar(sum(map(len, ids)), self.name, progress) as bar:
            for width in sorted(set(widths.tolist()), reverse=True):
                alike = np.flatnonzero(widths == width).tolist()
                size = max(1, min(self._batch_size, BATCH_TOKENS // width))
                for start in range(0, len(alike), size):
                    positions = alike[start : start + size]
                    yield positions, self._forward([ids[i] for i in positions], width, size)
                    bar.update(sum(len(ids[i]) for i in positions))

    def _tokenize(self, texts: Sequence[str]) -> list[np.ndarray]:
        ids: list[np.ndarray] = []
        for start in range(0, len(texts), _TOKENIZE):
            part = list(texts[start : start + _TOKENIZE])
            rows = self._tokenizer(part, truncation=True, max_length=self._max_length)["input_ids"]
            ids.extend(np.asarray(row or [self._pad], dtype=np.int32) for row in rows)
        return ids

    def _refuse_blind_first_token(self) -> None:
        """A causal model's first token has seen nothing but itself: texts with one beginning would
        have one vector."""
        row = self._tokenize(["one text, and its first token alone"])[0][:LENGTH_STEP]
        whole, alone = self._forward([row, row[:1]], LENGTH_STEP, 2)
        if len(row) > 1 and np.abs(whole - alone).max() <= _SAME * np.abs(whole).max():
            raise InputError(
                f"text_model {self.name}: its first token sees nothing of the text, as in any "
                "causal model, so that text_pooling cls gives equal beginnings equal vectors; set "
                "text_pooling: mean"
            )

    @torch.inference_mode()
    def _forward(self, rows: list[np.ndarray], width: int, size: int) -> np.ndarray:
        # Position tables may end before the multiple of 16 does.
        width = min(width, self._max_length)
        ids = np.full((size, width), self._pad, dtype=np.int64)
        mask = np.zeros((size, width), dtype=np.int64)
        for line in range(size):
            row = rows[min(line, len(rows) - 1)]
            ids[line, : len(row)] = row
            mask[line, : len(row)] = 1
        mask_there = torch.from_numpy(mask).to(self._device)
        try:
            states = self._model(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=mask_there
            ).last_hidden_state.float()
        except torch.cuda.OutOfMemoryError as error:
            raise InputError(
                f"{self.name}: {self._device} has not enough memory for {size} texts of {width} "
                "tokens; lower text_batch_size (what is encoded is kept)"
            ) from error
        if self._pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = mask_there.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1)
        return pooled[: len(rows)].cpu().numpy()


def _locate(options: TextOptions) -> tuple[str, str]:
    """Where transformers shall load from, and the exact revision of what is there."""
    name = str(options.text_model)
    if options.is_local:
        folder = Path(name).expanduser()
        if not (folder / "config.json").is_file():
            raise InputError(f"text_model {name}: the folder has no config.json, so no model in it")
        return str(folder), _folder_hash(folder)
    if name.startswith(("/", ".", "~")):
        raise InputError(f"text_model {name}: there is no such folder")
    with packages_needed(_WHO, "text"):
        import huggingface_hub as hub
    try:
        try:  # what is here is taken as it is; a newer revision is asked for by its name
            config = hub.hf_hub_download(
                name, "config.json", revision=options.text_revision, local_files_only=True
            )
        except hub.utils.LocalEntryNotFoundError:
            config = hub.hf_hub_download(name, "config.json", revision=options.text_revision)
    except (OSError, ValueError) as error:
        raise _not_there(options, error) from error
    return name, Path(config).parent.name


def _load(transformers: Any, source: str, revision: str, options: TextOptions) -> tuple[Any, Any]:
    where = {} if options.is_local else {"revision": revision}
    log = transformers.utils.logging
    verbosity = log.get_verbosity()
    log.disable_progress_bar()
    log.set_verbosity_error()  # its report on missing weights is ours below
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
        model, report = transformers.AutoModel.from_pretrained(
            source, output_loading_info=True, **where
        )
    except Exception as error:  # safetensors, tokenizers and pickle have errors of their own
        raise _not_there(options, error) from error
    finally:
        log.set_verbosity(verbosity)
        log.enable_progress_bar()
    if model.config.is_encoder_decoder:
        raise InputError(f"text_model {options.model_name}: an encoder-decoder; name an encoder")
    _refuse_empty_vocabulary(tokenizer, options)
    # Weights that the files lack are random numbers. Only the pooler may be: it is not used.
    lacking = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if lacking:
        raise InputError(
            f"text_model {options.model_name}: its files lack {len(lacking)} weights that the "
            f"model needs ({', '.join(lacking[:3])}, ...); they would be random"
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer, model


def _refuse_empty_vocabulary(tokenizer: Any, options: TextOptions) -> None:
    """Where the tokenizer's files lack, transformers makes a tokenizer of special tokens alone: all
    words would be unknown, and all texts would have one vector."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise InputError(
            f"text_model {options.text_model}: has no tokenizer files, so that every word would be "
            "unknown; put those of the model (tokenizer.json, or vocab.txt and the like) beside "
            "its weights"
        )


def _not_there(options: TextOptions, error: Exception) -> InputError:
    name = options.text_model
    if options.is_local or not isinstance(error, OSError | ValueError | KeyError):
        remedy = "install it" if isinstance(error, ImportError) else "fetch its files again"
        return InputError(
            f"text_model {name}: cannot be loaded: {_line(error)}; {remedy}, or name another model"
        )
    from huggingface_hub.constants import HF_HUB_CACHE

    pin = f" --revision {options.text_revision}" if options.text_revision else ""
    return InputError(
        f"text_model {name}: not in the local cache ({HF_HUB_CACHE}) and not to be had from the "
        f"hub ({_line(error)}). Where there is a network, fetch config.json, the tokenizer's files "
        f"and model.safetensors with `hf download {name}{pin} --local-dir FOLDER`, put FOLDER on "
        "this machine and set text_model to its path; or set text_encoder: lsa "
        "(--text_encoder=lsa), which needs nothing"
    )


def _device(options: TextOptions) -> torch.device:
    name = options.text_device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise InputError(f"text_device {name}: {_line(error)}") from error


def _max_length(tokenizer: Any, model: Any, options: TextOptions) -> int:
    """`text_max_length`, or less where the model has fewer positions."""
    wanted = options.text_max_length or 512
    positions = getattr(model.config, "max_position_embeddings", None) or wanted
    table: Any = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    if padding is not None:  # RoBERTa counts its positions from here on
        positions -= padding + 1
    limit = min(wanted, positions, tokenizer.model_max_length)
    if limit < wanted:
        logger.warning(
            "%s: takes %s tokens at most, not text_max_length %s", options.model_name, limit, wanted
        )
    special = tokenizer.num_special_tokens_to_add()
    if limit <= special:
        raise InputError(
            f"text_max_length: {limit} leaves no room beside the {special} special tokens of "
            f"{options.model_name}; take more"
        )
    return limit


def _folder_hash(folder: Path) -> str:
    """Hash of the files in a model's folder that its vectors can depend on."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in _MODEL_FILES for p in folder.glob(pattern)}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while part := file.read(1 << 22):
                digest.update(part)
    return f"sha256:{digest.hexdigest()[:40]}"


def _line(error: BaseException) -> str:
    return in_a_line(error)[:300] or type(error).__name__
