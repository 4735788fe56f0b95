"""The README.md of a bundle: what the model is, what it was trained on, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import jinja2

from recbole_hstu import __version__
from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.serving.export.programs import Programs

_CARD = """\
# {{ model }} trained on {{ dataset }}

| | |
|---|---|
| model | {{ model }} of recbole_hstu {{ version }} |
| data | {{ dataset }}: {{ "{:,}".format(n_items) }} items, {{ "{:,}".format(n_users) }} users |
| items added after the training | {{ "{:,}".format(n_added) }} |
| protocol | {{ protocol }} |
| training | {{ epochs }} epochs, {{ "{:,.0f}".format(seconds) }} s, seed {{ seed }} |
| date | {{ date }} |
| licence | {{ licence }} |

## Metrics

| | |
|---|---|
{% for part, figures in parts.items() %}
| {{ part }} | {{ figures }} |
{% endfor %}

## Files

| file | |
|---|---|
{% for name, what in files.items() %}
| `{{ name }}` | {{ what }} |
{% endfor %}

## Use

A history is the ids of its items, oldest first, right-padded with 0, at most {{ length }} of them.
An item's id is its place in `item_tokens.json`, whose entry 0 is the padding.
{% if "timestamp_list" in inputs %}
Times are whole numbers in the unit of the data set.
{% endif %}
{% if "timestamp" in inputs %}
`timestamp` is the time of the request.
{% endif %}
Scores are the product of the user's vector with the items' vectors.
{% if "model.onnx" in files and "items.parquet" in files %}

```python
import json
import numpy as np, onnxruntime, pyarrow.parquet as pq

tokens = json.load(open("item_tokens.json", encoding="utf-8"))
items = np.stack(pq.read_table("items.parquet")["vector"].to_pylist()).astype(np.float32)
session = onnxruntime.InferenceSession("model.onnx")
history = [tokens[1], tokens[2]]
(user,) = session.run(None, {
    "item_id_list": np.array([[tokens.index(item) for item in history]]),
    "item_length": np.array([len(history)]),
{% if "timestamp_list" in inputs %}
    "timestamp_list": np.array([[1_600_000_000, 1_600_000_100]]),
{% endif %}
{% if "timestamp" in inputs %}
    "timestamp": np.array([1_600_000_200]),
{% endif %}
})
best = np.argsort(-(user @ items.T)[0])[:10] + 1
print([tokens[id] for id in best])
```
{% endif %}
"""
_FILES = {
    "onnx": ("model.onnx", "user vectors, for any batch and length (ONNX)"),
    "torch": ("model.pt2", "user vectors, for `torch.export.load`; arguments in the order {order}"),
    "parquet": ("items.parquet", "id, token and vector of every item"),
    "faiss": ("items.faiss", "the item vectors as an exact index of inner products by id"),
}


def model_card(
    programs: Programs,
    formats: list[str],
    config: Mapping[str, Any],
    record: RunRecord | None,
    licence: str | None,
) -> str:
    """Markdown.

    Args:
        record: of the run, which knows the test metrics; a checkpoint does not.
        licence: of the model; where nobody says so, the card says that.
    """
    saved, inputs = programs.rec.saved, programs.module.inputs
    order = ", ".join(inputs)
    if programs.fixed:
        order += f", rows padded to {programs.length}"
    files = {_FILES[name][0]: _FILES[name][1].format(order=order) for name in formats}
    files |= {"item_tokens.json": "item tokens by id", "config.json": "the options of the training"}
    trained = saved.state["tokens"]["items"][0] - 1
    written = datetime.fromtimestamp(saved.path.stat().st_mtime, tz=timezone.utc)
    parts = {
        "validation": _figures(saved.state["best_valid_result"]),
        "test": _figures(record.metrics if record else {}),
    }
    template = jinja2.Template(_CARD, trim_blocks=True, keep_trailing_newline=True)
    return template.render(
        model=config["model"],
        dataset=config["dataset"],
        version=__version__,
        n_items=trained,
        n_users=saved.state["tokens"]["users"][0] - 1,
        n_added=len(saved.item_tokens) - 1 - trained,
        protocol=config["protocol"] or "none",
        epochs=len(saved.state["history"]),
        seconds=saved.state["trained_seconds"],
        seed=config["seed"],
        date=f"{written:%Y-%m-%d}",
        licence=licence or "not stated; the terms of the data apply",
        parts=parts,
        files=files,
        length=programs.length,
        inputs=inputs,
    )


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) or "not known"
