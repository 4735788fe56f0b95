"""Item text to vectors, off line and resumable: huggingface, openai, lsa.

Importing this package loads none of the libraries behind the encoders; building one does.
"""

from __future__ import annotations

from recbole_hstu.encoders.base import Encoder
from recbole_hstu.encoders.encode_items import build_encoder, ensure_text_features
from recbole_hstu.encoders.options import TextOptions

__all__ = ["Encoder", "TextOptions", "build_encoder", "ensure_text_features"]
