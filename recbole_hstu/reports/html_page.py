"""A comparison on one HTML page that needs no other file and no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.reports.comparison_formats import cell_texts, cost_texts, headings
from recbole_hstu.reports.comparison_table import Table, one_line
from recbole_hstu.reports.plots import TEXT_COLOUR
from recbole_hstu.support.templates import templates


@dataclass(frozen=True)
class Section:
    """One data set under one protocol: its table, its runs, its plots as (caption, SVG), and the
    table of what lies beyond accuracy."""

    table: Table
    records: Sequence[RunRecord]
    plots: Sequence[tuple[str, str]]
    beyond: Table | None = None


def html_page(sections: Sequence[Section]) -> str:
    """The whole page as text; it follows the reader's light or dark setting.

    Everything is escaped but the plots: their SVG must come from `plots.svg`.
    """
    environment = templates("recbole_hstu.reports", "templates")
    functions = (headings, cell_texts, cost_texts, one_line, inline_svg, facts, config_json)
    environment.globals |= {function.__name__: function for function in functions}
    return environment.get_template("comparison.html").render(sections=sections)


def facts(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What is known of a run, as (name, text)."""
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    for name, text in (
        ("Model", record.model),
        ("Device", record.device),
        ("Versions", versions),
        ("Error", record.error),
    ):
        if text:
            yield name, text


def config_json(record: RunRecord) -> str:
    """A run's configuration, for reading."""
    return json.dumps(dict(record.config), indent=1, ensure_ascii=False, default=str)


def inline_svg(svg: str, prefix: str) -> Markup:
    """The `<svg>` element alone, in the reader's colour, its ids not shared with other plots."""
    svg = svg[svg.index("<svg") :].replace(TEXT_COLOUR, "currentColor")
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return Markup(re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg))
