"""A comparison on one HTML page that needs no other file and no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from recbole_hstu.records.run_record import RunRecord
from recbole_hstu.reports.plots import INK
from recbole_hstu.reports.table_formats import costs, figures, headings
from recbole_hstu.reports.tables import Cell, Row, Table, one_line

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --page: #ffffff; --soft: #5c6370;
        --line: #d9dce1; --best: #e8f1fa; --bad: #a3261b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --page: #16181d; --soft: #a2a8b3; --line: #383d47; --best: #1d3347;
          --bad: #ff9d92; } }
body { color: var(--ink); background: var(--page); margin: 2rem auto; padding: 0 1.25rem;
       max-width: 75rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; white-space: nowrap; } thead th { border-bottom-width: 2px; }
.number { text-align: right; white-space: nowrap; }
.best { background: var(--best); } .best b { font-weight: 700; }
small, .legend, figcaption { color: var(--soft); } td small { display: block; }
.remark { min-width: 12rem; overflow-wrap: anywhere; } .failed .remark { color: var(--bad); }
figure { margin: 1.5rem 0; }
figure svg { width: 100%; max-width: 62rem; height: auto; color: var(--ink); }
pre { overflow-x: auto; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Section:
    """One data set under one protocol: its table, its runs, its plots as (caption, SVG), and the
    table of what lies beyond accuracy."""

    table: Table
    records: Sequence[RunRecord]
    plots: Sequence[tuple[str, str]]
    beyond: Table | None = None


def html_page(title: str, sections: Sequence[Section]) -> str:
    """The whole page as text; it follows the reader's light or dark setting."""
    body = "".join(_section(section, place) for place, section in enumerate(sections))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )


def _section(section: Section, place: int) -> str:
    table = section.table
    drawn = "".join(
        f"<figure>{_inline(svg, f's{place}p{number}-')}"
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        for number, (caption, svg) in enumerate(section.plots)
    )
    beyond = f"<h3>Beyond accuracy</h3>\n{_table(section.beyond)}" if section.beyond else ""
    return (
        f"<h2>{escape(table.dataset)}</h2>\n<p>{escape(table.protocol)} protocol</p>\n"
        f"{_table(table)}{drawn}{beyond}<h3>Runs</h3>\n{_runs(section.records)}"
    )


def _table(table: Table) -> str:
    names = headings(table)
    kinds = ["", *[' class="number"'] * (len(names) - 2), ""]
    head = "".join(f"<th{k}>{escape(n)}</th>" for n, k in zip(names, kinds, strict=True))
    rows = "".join(_row(row) for row in table.rows)
    legend = "<br>".join(escape(text) for text in ("Shaded: best of its column.", *table.legend))
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'</div>\n<p class="legend">{legend}</p>\n'
    )


def _row(row: Row) -> str:
    cells = "".join(_cell(cell) for cell in row.cells)
    cost = "".join(f'<td class="number">{escape(text)}</td>' for text in costs(row))
    kind = "" if row.seeds else ' class="failed"'
    return (
        f"<tr{kind}><th>{escape(row.label)}</th>{cells}{cost}"
        f'<td class="remark">{escape(row.remark)}</td></tr>\n'
    )


def _cell(cell: Cell) -> str:
    mean, extra, mark = figures(cell)
    shown = f"<b>{mean}</b>" if cell.best else mean
    more = "".join(f"<small>{escape(text)}</small>" for text in extra)
    kind = "number best" if cell.best else "number"
    return f'<td class="{kind}">{shown}{mark}{more}</td>'


def _runs(records: Sequence[RunRecord]) -> str:
    return "".join(
        f"<details><summary>{escape(one_line(r.label))}, seed {r.seed}: {escape(r.status)}"
        f"</summary>{_facts(r)}</details>\n"
        for r in records
    )


def _facts(record: RunRecord) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    facts: Mapping[str, str] = {
        "Model": record.model,
        "Device": record.device,
        "Versions": versions,
        "Error": record.error,
    }
    lines = "<br>".join(f"{name}: {escape(text)}" for name, text in facts.items() if text)
    config = json.dumps(dict(record.config), indent=1, ensure_ascii=False, default=str)
    return f"<p>{lines}</p><pre>{escape(config)}</pre>"


def _inline(svg: str, prefix: str) -> str:
    """The `<svg>` element alone, in the reader's colour, its ids not shared with other plots."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
