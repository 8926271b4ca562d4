"""One table as CSV, HTML, LaTeX or Markdown, or as aligned text for the terminal."""

import csv
import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from vdm.runtime.tables import show_table

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "<": "$<$",
    ">": "$>$",
    "γ": r"$\gamma$",
    "∞": r"$\infty$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


class Table(NamedTuple):
    """Names of the columns, and rows of as many values: text, numbers, intervals (tuples) or None."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def to_csv(table: Table) -> bytes:
    """Return the table as CSV in full precision; None is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return file.getvalue().encode()


def to_html(table: Table) -> str:
    """Return the table in a box of its own that scrolls where the page is too narrow."""
    head = "".join(f"<th>{html.escape(_words(name))}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(show(value))}</td>" for value in row) + "</tr>"
        for row in table.rows
    )
    return f"<div class='table'><table><tr>{head}</tr>{rows}</table></div>"


def to_latex(table: Table, facts: str = "") -> bytes:
    r"""Return the table for LaTeX with \usepackage{booktabs}; `facts` stand above it as a comment."""
    # The facts travel with the table when it is pasted into a paper.
    lines = [f"% {line}" for line in facts.splitlines()]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
    lines += [_latex_row([_words(name) for name in table.columns]), r"\midrule"]
    lines += [_latex_row([show(value) for value in row]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines).encode()


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, numbers on the right; "|" in a cell is escaped."""
    lines = [list(map(str, table.columns))]
    # A column is one of numbers where its first row is one; a table without rows has none.
    first = table.rows[0] if table.rows else table.columns
    lines.append(["---:" if isinstance(value, int | float) else "---" for value in first])
    lines += [[show(value) for value in row] for row in table.rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def show(value: Any) -> str:
    """Return a cell as text: numbers for reading, not for calculation.

    Floats have four decimal places, or two significant digits where four places would show none or too
    many; intervals are "[low, high]"; None is "".
    """
    # An empty cell, rather than "None" or "nan", for a number that does not exist.
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(show(v) for v in value)}]"
    if isinstance(value, float):
        plain = value == 0 or 5e-4 <= abs(value) < 1e5
        return f"{value:.4f}" if plain and value else f"{value:.2g}"
    return str(value)


def escape_latex(text: str) -> str:
    """Return text with LaTeX's special characters, and our symbols, as commands."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    """Return one line of a tabular, its cells escaped."""
    # Braces: a row that begins with "[" would be read as the length of a line break.
    return " & ".join(f"{{{escape_latex(cell)}}}" for cell in cells) + r" \\"


def _words(name: str) -> str:
    """Return a column's name as words: CSV files have underscores in its place."""
    return name.replace("_", " ")


def format_table(table: Table) -> str:
    """Return the table as aligned text for the terminal."""
    return show_table(table.columns, [[show(value) for value in row] for row in table.rows])
