"""Texts and `.item` files of any number of items."""

from __future__ import annotations

from pathlib import Path

from recbole_hstu.encoders import Encoder, TextOptions, build_encoder

WORDS = ["guitar", "string", "amp", "pedal", "drum", "stick", "piano", "cable", "violin", "reed"]


def texts_of(count: int, shift: int = 0) -> list[str]:
    """Different texts of different lengths."""
    return [
        " ".join(WORDS[(i * k + k * k) % len(WORDS)] for k in range(1, 2 + i % 23)) + f" {i}"
        for i in range(shift, shift + count)
    ]


def write_items(folder: Path, texts: list[str], name: str = "toy") -> Path:
    """`{name}.item` with one title an item; item tokens i0, i1, ..."""
    folder.mkdir(exist_ok=True, parents=True)
    rows = "".join(f"i{n}\t{text}\n" for n, text in enumerate(texts))
    (folder / f"{name}.item").write_text("item_id:token\ttitle:token_seq\n" + rows, "utf-8")
    return folder


def encoder_of(config: dict) -> Encoder:
    """The encoder of some `text_*` options."""
    return build_encoder(TextOptions.from_mapping(config))
