"""Items that no training has seen, by their texts or text vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_hstu.data.files.item_text import ItemText
from recbole_hstu.data.files.semantic_id_file import codes_by_token, semantic_ids_path
from recbole_hstu.encoders.further_texts import FurtherTexts
from recbole_hstu.layers.items.stand_in_ids import STAND_INS
from recbole_hstu.model.parts.generative_retriever import GenerativeRetriever
from recbole_hstu.semantic_ids.further_ids import further_ids
from recbole_hstu.serving.checks import is_text
from recbole_hstu.serving.saved_model import SavedModel
from recbole_hstu.support.errors import InputError, first_ten, reading
from recbole_hstu.support.json_text import of_line

_FORM = '{"B0...": {"title": "...", "categories": "..."}}, or a vector in place of the fields'
_LINE = '{"item": "B0...", "title": "...", "categories": "..."} or {"item": "B0...", "vector": []}'
_IDS = '{"B0...": [17, 203, 5, 0]}, the codes of a semantic id'


def check_new_items(options: Mapping[str, Any]) -> None:
    """Whether the options of a command that takes new items fit each other.

    Raises:
        InputError: they do not.
    """
    if "stand_in" in options and "new_items" not in options:
        raise InputError("--stand_in: is for new items; name their file with --new_items")


def new_items(options: Mapping[str, Any]) -> list[Any]:
    """What `Recommender.add_items` takes of a command's options, in its order."""
    return [options[key] for key in ("new_items", "stand_in") if key in options]


def add_items(saved: SavedModel, items: Any, stand_in: str) -> None:
    """Make items known to a model whose training has not seen them; bad input changes nothing.

    Args:
        saved: the model; its tokens get longer.
        items: item token to the fields that the texts of the training were made from, as in
            `{"B0...": {"title": ..., "categories": ...}}`, or to a text vector; for a model that
            generates semantic ids, to its codes. Or the path of a file, see `read_new_items`.
        stand_in: for their id vectors: `neighbours` (the mean over the 10 items whose texts are
            most alike), `mean` (over all items) or `zero`.

    Raises:
        InputError: a token that is known, an empty text, an unknown field, a vector of another
            width or with a number that is not finite; codes that are no id, or that of another
            item; a model without text vectors; an encoder that is not there.
    """
    where = "add_items"
    if isinstance(items, str | Path):
        where, items = str(items), read_new_items(items)
    if isinstance(saved.model, GenerativeRetriever):
        _add_ids(saved, items, where)
        return
    if stand_in not in STAND_INS:
        raise InputError(f"stand_in: {stand_in!r} is not one of {', '.join(STAND_INS)}")
    width = getattr(saved.model, "text_width", None)
    if width is None:
        raise InputError(
            f"{saved.config['model']} has no text vectors to know new items by; take HSTUText, or "
            "train with the items"
        )
    given = _by_token(items, where, _FORM)
    known = set(saved.item_tokens)
    there = [token for token in given if token in known]
    if there:
        raise InputError(f"{where}: the model knows these items already: {first_ten(there)}")
    texts = {token: value for token, value in given.items() if isinstance(value, Mapping)}
    vectors = {token: value for token, value in given.items() if token not in texts}
    if texts:
        vectors |= _encoded(saved, texts, where)
    table = np.stack([_vector(f"{where}: item {token}", vectors[token], width) for token in given])
    text = torch.from_numpy(table).to(saved.config["device"])
    if getattr(saved.model, "takes_codes", False):
        saved.model.take_codes(_codes_by_text(saved, list(given), text, where))
    saved.model.add_items(text, stand_in)
    saved.item_tokens.extend(given)


def _by_token(items: Any, where: str, form: str) -> dict[str, Any]:
    """The items by their tokens as texts; `where` begins an error's line, `form` is what they must
    look like."""
    if not isinstance(items, Mapping) or not items:
        raise InputError(f"{where}: expected {form}")
    for token in items:
        if isinstance(token, bool) or not isinstance(token, str | int | np.integer) or token == "":
            raise InputError(f"{where}: {token!r} is not an item token")
        if not is_text(str(token)):
            raise InputError(f"{where}: the token {token!a} holds half a character (a surrogate)")
    given = {str(token): value for token, value in items.items()}
    if len(given) < len(items):
        raise InputError(f"{where}: an item is given as a number and as a text; give it once")
    return given


def _codes_by_text(
    saved: SavedModel, tokens: list[str], text: torch.Tensor, where: str
) -> torch.Tensor:
    """(n, levels) codes of new items, by the quantiser of the file that the training read."""
    known, before = saved.model.text[1:], saved.model.semantic_ids.codes[1:]
    vectors = torch.cat([known, text]).cpu().numpy()
    file = semantic_ids_path(saved.config)
    codes = torch.from_numpy(further_ids(file, [*saved.item_tokens[1:], *tokens], vectors))
    moved = (codes[: len(before)] != before.cpu()).any(dim=1)
    if moved.any():
        raise InputError(
            f"{where}: {file}: {int(moved.sum()):,} items have other semantic ids there than in "
            "the training; put the file of the training back"
        )
    return codes[len(known) :].to(text.device)


def _add_ids(saved: SavedModel, items: Any, where: str) -> None:
    """Items by their codes. Those of a semantic-id file are all items: what is known is left out
    where it has the codes that it was trained with. Errors begin with `where`."""
    known = dict(zip(saved.item_tokens[1:], saved.model.ids.codes[1:].tolist(), strict=True))
    given = _by_token(items, where, _IDS)
    codes = {token: _codes(f"{where}: item {token}", value) for token, value in given.items()}
    moved = [token for token in codes if token in known and codes[token] != known[token]]
    if moved:
        raise InputError(
            f"{where}: {len(moved):,} items have other semantic ids than in the training: "
            f"{first_ten(moved)}; give new items codes by the quantiser of the training's file"
        )
    new = {token: row for token, row in codes.items() if token not in known}
    if not new:
        raise InputError(f"{where}: the model knows all of these items already")
    _check_codes(new, known, saved.model.ids.level_sizes, where)
    saved.model.take_codes(torch.tensor(list(new.values())))
    saved.item_tokens.extend(new)


def _check_codes(
    new: Mapping[str, list[int]], known: Mapping[str, list[int]], sizes: Sequence[int], where: str
) -> None:
    """The ids of new items must be such as the training could have had, each of one item alone."""
    uneven = [token for token, row in new.items() if len(row) != len(sizes)]
    if uneven:
        raise InputError(f"{where}: {len(sizes)} codes an item, not as for {first_ten(uneven)}")
    others = [t for t, row in new.items() if not _within(row[:-1], sizes[:-1]) or row[-1] < 0]
    if others:
        raise InputError(
            f"{where}: {len(others):,} items have codes that the training's levels of "
            f"{[*sizes]} codes do not have: {first_ten(others)}; give new items codes by the "
            "quantiser of the training's file"
        )
    last = [token for token, row in new.items() if not _within(row[-1:], sizes[-1:])]
    if last:
        raise InputError(
            f"{where}: {len(last):,} items share all codes but the last with others, and the "
            f"training has only {sizes[-1]} last codes, none for these: {first_ten(last)}; leave "
            "them out, or train with them"
        )
    owners: dict[tuple[int, ...], str] = {}
    for token, row in (*known.items(), *new.items()):
        owner = owners.setdefault(tuple(row), token)
        if owner != token:
            raise InputError(f"{where}: items {owner} and {token} have one id, {row}; give another")


def _within(codes: Sequence[int], sizes: Sequence[int]) -> bool:
    return all(0 <= code < size for code, size in zip(codes, sizes, strict=True))


def _codes(item: str, value: Any) -> list[int]:
    """Of one item; `item` begins an error's line, here and below."""
    whole = isinstance(value, list | tuple) and all(type(code) is int for code in value)
    if not whole or not all(abs(code) < 2**31 for code in value):
        raise InputError(f"{item}: {value!r} are no codes; expected {_IDS}")
    return list(value)


def read_new_items(path: str | Path) -> dict[str, Any]:
    """New items from JSON lines, or the codes of all items of a semantic-id file
    (`.safetensors`), in the form that `add_items` takes.

    Raises:
        InputError: no such file, a line of another form, an item twice.
    """
    if Path(path).suffix == ".safetensors":
        return codes_by_token(path)
    found: dict[str, Any] = {}
    with reading(path), Path(path).open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                token, value = _of_line(f"{path}: line {number}", line)
                if token in found:
                    raise InputError(f"{path}: line {number}: item {token} stands there twice")
                found[token] = value
    return found


def _of_line(where: str, line: str) -> tuple[str, Any]:
    value = of_line(line, where, _LINE)
    if not isinstance(value, dict) or type(value.get("item")) not in (str, int):
        raise InputError(f"{where}: has no item; expected {_LINE}")
    token = str(value.pop("item"))
    if "vector" not in value:
        return token, value
    if len(value) > 1:
        raise InputError(f"{where}: has a vector and other fields; expected {_LINE}")
    return token, value["vector"]


def _encoded(
    saved: SavedModel, items: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, np.ndarray]:
    encoder = FurtherTexts(saved.config["text_features_file"], saved.config)
    made_from = encoder.item_text
    texts = [_text(made_from, f"{where}: item {token}", fields) for token, fields in items.items()]
    return dict(zip(items, encoder.encode(texts), strict=True))


def _text(item_text: ItemText, item: str, fields: Mapping[str, Any]) -> str:
    unknown = [str(name) for name in fields if name not in item_text.fields]
    if unknown:
        raise InputError(
            f"{item}: unknown fields {', '.join(unknown)}; this model's texts are made from "
            f"{', '.join(item_text.fields)}"
        )
    text = item_text.join([_value(item, fields.get(name)) for name in item_text.fields])
    if not text:
        raise InputError(
            f"{item}: the text is empty; give one of {', '.join(item_text.fields)}, or a vector"
        )
    return text


def _value(item: str, value: Any) -> str:
    """A field as the converters write it: a list is joined by commas."""
    if value is None:
        return ""
    parts = value if isinstance(value, list | tuple) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int | float) or part != part:
            raise InputError(f"{item}: {part!r} is not a text")
    return ", ".join(text for text in map(str, parts) if text)


def _vector(item: str, value: Any, width: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(value)
            if given.dtype.kind not in "fiu":
                raise TypeError(given.dtype)
            vector = given.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{item}: neither fields nor a vector; expected {_FORM}") from error
    if vector.shape != (width,):
        raise InputError(
            f"{item}: a vector of shape {vector.shape}; the model's text vectors have {width} "
            "numbers"
        )
    if not np.isfinite(vector).all():
        raise InputError(f"{item}: the vector holds a number that is not finite")
    if not np.isfinite(np.linalg.norm(vector)):  # it would be divided by infinity
        raise InputError(f"{item}: the vector's length is not finite in float32")
    return vector
