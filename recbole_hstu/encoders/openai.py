"""OpenAI's embeddings API, or a server that speaks it.

The client does the retrying: on 408, 409, 429, 5xx, a cut connection and a timeout, with growing
pauses or those that the server asks for. The key comes from OPENAI_API_KEY and goes nowhere else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from recbole_hstu.encoders.base import Batch, Encoder, log_truncated, token_bar
from recbole_hstu.encoders.options import TextOptions, public_url
from recbole_hstu.support.errors import InputError, in_a_line, packages_needed
from recbole_hstu.support.secrets import MASK, masked

API = "https://api.openai.com/v1"
REQUEST_TEXTS = 2048  # the API's own limit
REQUEST_TOKENS = 250_000  # the API's limit is 300,000
RETRIES = 10  # about a minute of pauses in all
TIMEOUT_S = 120.0
_A_SECRET = 8  # characters, from here on; shorter keys are placeholders, found in any word

logger = logging.getLogger(__name__)


class OpenAIEncoder(Encoder):
    """A model behind the embeddings API.

    Texts longer than `text_max_length` tokens are cut there and counted. Tokens are counted by
    tiktoken; where it has no table for the model (no network, another vendor's model) a token a
    UTF-8 byte is assumed, which is never too few. The API refuses the empty text: a space is sent
    in its place. Only `batches` needs the key and the network.

    Raises:
        InputError: the openai package is not installed.
    """

    def __init__(self, options: TextOptions) -> None:
        with packages_needed("text_encoder openai (lsa needs nothing)", "openai"):
            import openai
        self._openai = openai
        self._options = options
        self._url = options.text_base_url or API
        self._host = urlsplit(masked(self._url)).hostname or masked(self._url)
        self._max_length = options.text_max_length or 8191
        self._count, self._cut = _tokenizer(str(options.text_model))
        self.name = str(options.text_model)
        self.revision = self._host
        self.identity = {
            "encoder": "openai",
            "url": public_url(self._url),
            "model": self.name,
            "dimensions": options.text_dimensions,
        }

    def prepare(self, texts: Sequence[str]) -> list[str]:
        """Cut what is too long and put a space for the empty text."""
        sent = [self._cut(text, self._max_length) or " " for text in texts]
        cut = sum(len(after) < len(text) for after, text in zip(sent, texts, strict=True))
        log_truncated(self.name, cut, len(texts), self._max_length)
        return sent

    def batches(self, texts: Sequence[str], *, progress: bool = True) -> Iterator[Batch]:
        """See `Encoder.batches`; one batch is one request."""
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            raise InputError(
                "text_encoder openai reads its key from the environment: set OPENAI_API_KEY "
                "(to anything, for a server that asks for none)"
            )
        if MASK in self._url:
            raise InputError(
                f"text_base_url={self._url}: its secrets were masked, as in all that a run keeps; "
                "give the whole address again, with OPENAI_BASE_URL"
            )
        counts = [self._count(text) for text in texts]
        client = self._openai.OpenAI(
            api_key=key,
            base_url=self._url,
            max_retries=RETRIES,
            timeout=TIMEOUT_S,
        )
        with client, token_bar(sum(counts), self.name, progress) as bar:
            for positions in self._requests(counts):
                yield positions, self._embed(client, key, [texts[i] for i in positions])
                bar.update(sum(counts[i] for i in positions))

    def _requests(self, counts: Sequence[int]) -> Iterator[list[int]]:
        most = min(self._options.text_batch_size or REQUEST_TEXTS, REQUEST_TEXTS)
        positions: list[int] = []
        tokens = 0
        for i, count in enumerate(counts):
            if positions and (len(positions) == most or tokens + count > REQUEST_TOKENS):
                yield positions
                positions, tokens = [], 0
            positions.append(i)
            tokens += count
        if positions:
            yield positions

    def _embed(self, client: Any, key: str, texts: list[str]) -> np.ndarray:
        width = self._options.text_dimensions
        width_option = {} if width is None else {"dimensions": width}
        try:
            answer = client.embeddings.create(model=self.name, input=texts, **width_option)
            rows = sorted(answer.data, key=lambda row: row.index)
            numbers = [row.index for row in rows]
            vectors = [np.asarray(row.embedding, dtype=np.float32) for row in rows]
        except self._openai.OpenAIError as error:
            # `from None`: the error's own text and request stay out of any traceback.
            raise InputError(self._explain(error, key)) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise self._unusable(f"not an answer to a request for embeddings: {error}") from None
        if numbers != list(range(len(texts))):
            raise self._unusable(f"{len(rows)} vectors for {len(texts)} texts")
        widths = sorted({len(vector) for vector in vectors})
        if len(widths) != 1 or width not in (None, widths[0]):
            raise self._unusable(
                f"vectors of {', '.join(map(str, widths))} numbers, text_dimensions is {width}"
            )
        return np.stack(vectors)

    def _unusable(self, why: str) -> InputError:
        return InputError(f"{self._host}: {why}; nothing of this request is kept, {_GOES_ON}")

    def _explain(self, error: Exception, key: str) -> str:
        reason = in_a_line(error)
        if len(key) >= _A_SECRET:
            reason = reason.replace(key, "[key]")
        reason = reason[:300]  # after the key is gone: half of it would stay
        known = self._openai
        if isinstance(error, known.AuthenticationError | known.PermissionDeniedError):
            what = f"does not accept the key in OPENAI_API_KEY for {self.name}"
        elif isinstance(error, known.BadRequestError | known.NotFoundError):
            what = (
                f"refused the request: {reason}; see text_model, text_dimensions, text_max_length "
                f"({self._max_length}) and text_batch_size"
            )
        elif isinstance(error, known.RateLimitError):
            what = f"still refuses after {RETRIES + 1} tries, for its rate limit or quota: {reason}"
        elif isinstance(error, known.APIConnectionError):
            what = f"could not be reached in {RETRIES + 1} tries ({reason})"
        else:
            what = f"failed: {reason}"
        return f"{self._host}: {what}; {_GOES_ON}"


_GOES_ON = "what was answered before is kept, and the next run goes on from there"


def _tokenizer(model: str) -> tuple[Callable[[str], int], Callable[[str, int], str]]:
    """How to count a text's tokens, and how to cut it at some number of them."""
    try:
        import tiktoken

        encoding = tiktoken.encoding_for_model(model)
    except (ImportError, OSError, KeyError, ValueError) as error:
        logger.warning(
            "%s: tiktoken has no token table for it here (%s); a token a byte is assumed, and "
            "texts are cut sooner than they need be",
            model,
            type(error).__name__,
        )
        return _count_bytes, _cut_bytes

    def count(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    def cut(text: str, most: int) -> str:
        if len(text.encode("utf-8")) <= most:  # a token is a byte or more
            return text
        tokens = encoding.encode_ordinary(text)
        while len(tokens) > most:  # again if what is left, read anew, falls into more tokens
            text = encoding.decode_bytes(tokens[:most]).decode("utf-8", "ignore")
            tokens = encoding.encode_ordinary(text)
            most -= len(tokens) > most
        return text

    return count, cut


def _count_bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _cut_bytes(text: str, most: int) -> str:
    return text.encode("utf-8")[:most].decode("utf-8", "ignore")
