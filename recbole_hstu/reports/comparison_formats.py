"""A comparison's table as Markdown, CSV, LaTeX and terminal text."""

from __future__ import annotations

import textwrap

from recbole_hstu.reports.comparison_table import DIGITS, Cell, Row, Table
from recbole_hstu.reports.text_tables import (
    csv_table,
    escape_markdown,
    markdown_table,
    terminal_table,
)
from recbole_hstu.support.commands.terminal import terminal_width

MARKS = {"better": "†", "worse": "‡", "": ""}
NO_VALUE = "-"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def headings(table: Table) -> list[str]:
    """The columns: model, metrics, then what the row cost."""
    return ["Model", *table.metrics, "Seeds", "Training (s)", "Epochs", "Parameters", "Remark"]


def alignment(table: Table) -> str:
    """A letter for each column, l (left) or r (right): numbers stand right."""
    return "l" + "r" * (len(headings(table)) - 2) + "l"


def cell_texts(cell: Cell) -> tuple[str, list[str], str]:
    """A cell's mean, its spread and gain as far as they are known, and its mark, as text."""
    if cell.mean is None:
        return NO_VALUE, [], ""
    extra = [f"± {cell.std:.{DIGITS}f}"] if cell.std is not None else []
    extra += [f"({cell.gain:+.1f}%)"] if cell.gain is not None else []
    return f"{cell.mean:.{DIGITS}f}", extra, MARKS[cell.mark]


def cost_texts(row: Row) -> list[str]:
    """Finished seeds, and their mean training seconds, epochs and parameters, as text."""
    shown = [str(row.seeds)]
    for value in (row.seconds, row.epochs, row.parameters):
        digits = 0 if value is None or value >= 100 or value == int(value) else 1
        shown.append(NO_VALUE if value is None else f"{value:,.{digits}f}")
    return shown


def to_markdown(table: Table) -> str:
    """A pipe table, the best mean of a column in bold, the legend below."""

    def cell(c: Cell) -> str:
        mean, extra, mark = cell_texts(c)
        return " ".join([f"**{mean}**{mark}" if c.best else mean + mark, *extra])

    rows = [
        [
            escape_markdown(row.label),
            *map(cell, row.cells),
            *cost_texts(row),
            escape_markdown(row.remark),
        ]
        for row in table.rows
    ]
    names = headings(table)
    shown = markdown_table([escape_markdown(name) for name in names], rows, alignment(table))
    legend = "".join(f"{escape_markdown(text)}\n" for text in table.legend)
    return shown + (f"\n{legend}" if legend else "")


def to_csv(table: Table) -> str:
    """Plain numbers, a column each for mean, standard deviation, gain and adjusted p value."""
    parts = ("", ".std", ".gain_percent", ".p")
    names = ["model", "dataset", "protocol", "seeds"]
    names += [name + part for name in table.metrics for part in parts]
    names += ["training_seconds", "epochs", "parameters", "remark"]
    rows = []
    for row in table.rows:
        numbers = [value for c in row.cells for value in (c.mean, c.std, c.gain, c.p)]
        numbers += [row.seconds, row.epochs, row.parameters]
        rows.append([row.label, table.dataset, table.protocol, row.seeds, *numbers, row.remark])
    return csv_table(names, rows)


def to_latex(table: Table) -> str:
    """A `tabular`, the legend below it; the document needs the package booktabs."""

    def cell(c: Cell) -> str:
        mean, extra, mark = cell_texts(c)
        mean = rf"\textbf{{{mean}}}" if c.best else mean
        more = [escape_latex(text).replace("(-", "($-$") for text in extra]
        return " ".join([mean + escape_latex(mark), *more])

    def line(parts: list[str]) -> str:
        return " & ".join(parts) + r" \\"

    names = headings(table)
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{alignment(table)}}}",
        r"\toprule",
    ]
    lines += [line([escape_latex(n) for n in names]), r"\midrule"]
    for row in table.rows:
        last = [escape_latex(text) for text in (*cost_texts(row), row.remark)]
        lines.append(line([escape_latex(row.label), *(cell(c) for c in row.cells), *last]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    legend = [rf"{{\par\smallskip\footnotesize {escape_latex(' '.join(table.legend))}\par}}"]
    return "\n".join([*lines, *(legend if table.legend else [])]) + "\n"


def to_text(table: Table) -> str:
    """For the terminal: spread and gain below the mean, a star before the best mean, the remarks
    below the table."""

    def cell(c: Cell) -> str:
        mean, extra, mark = cell_texts(c)
        return "\n".join([f"{'*' if c.best else ''}{mean}{mark}", *extra])

    rows = [[row.label, *map(cell, row.cells), *cost_texts(row)] for row in table.rows]
    title = f"{table.dataset} ({table.protocol} protocol)\n"
    shown = terminal_table(headings(table)[:-1], rows, alignment(table)[:-1])
    best = ["* best of its column."] if any(c.best for r in table.rows for c in r.cells) else []
    remarks = [f"{row.label}: {row.remark}" for row in table.rows if row.remark]
    notes = [textwrap.fill(text, terminal_width()) for text in (*remarks, *best, *table.legend)]
    return title + shown + "".join(f"{note}\n" for note in notes)


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{}-")  # else one dash
