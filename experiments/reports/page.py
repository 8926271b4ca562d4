"""HTML pages that open from disk and need no other file, with their figures and tables beside them."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib

# Before pyplot is imported: reports are written on machines without a display.
matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.reports.tables import Table, to_csv, to_latex
from vdm.runs.folder import write_bytes
from vdm.runs.progress import Progress

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, p, li { overflow-wrap: anywhere }
.table { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .6rem; text-align: right; white-space: nowrap; vertical-align: top }
th { border-bottom: 1px solid #888; white-space: normal }
td:first-child, th:first-child { text-align: left }
img { max-width: 100% } figure { margin: 1.5rem 0 } .facts { color: #555 }
"""

Drawing = Callable[[], Figure]
"""A function that makes one figure of a page; `render` closes it."""


def render(drawings: Mapping[str, Drawing]) -> dict[str, dict[str, bytes]]:
    """Draw every figure once and return it in both file formats.

    Args:
      drawings: {file stem: function that draws the figure}.

    Returns:
      {file stem: {"png": content, "pdf": content}}.
    """
    rendered: dict[str, dict[str, bytes]] = {}
    with Progress("drawing", len(drawings), "figures") as bar:
        for name, draw in drawings.items():
            figure = draw()
            rendered[name] = {kind: _save(figure, kind) for kind in ("png", "pdf")}
            # pyplot keeps every figure alive until it is closed.
            plt.close(figure)
            bar.update(len(rendered))
    return rendered


def _save(figure: Figure, kind: str) -> bytes:
    """Return the bytes of the figure's file, which are equal for equal figures."""
    file = io.BytesIO()
    metadata = {"CreationDate": None} if kind == "pdf" else {}
    figure.savefig(file, format=kind, dpi=130, metadata=metadata)
    return file.getvalue()


def document(title: str, parts: list[str]) -> bytes:
    """Return the whole page as UTF-8; `parts` are its sections in HTML."""
    head = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
    )
    return "\n".join([head, *parts, "</body></html>"]).encode()


def section(title: str, *contents: str) -> str:
    """Return a heading, which is escaped, followed by contents in HTML."""
    return "\n".join([f"<h2>{html.escape(title)}</h2>", *contents])


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text, which is escaped; `kind` is its CSS class."""
    return f"<p{f' class={kind}' if kind else ''}>{html.escape(text)}</p>"


def picture(png: bytes, caption: str) -> str:
    """Return a figure that carries the PNG itself; `caption` is its text for screen readers."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f"<figure><img alt='{html.escape(caption)}' src='{source}'></figure>"


def write(
    out: Path,
    page: bytes,
    tables: Mapping[str, Table],
    figures: Mapping[str, Mapping[str, bytes]],
    facts: str,
    latex: Mapping[str, Table],
) -> Path:
    """Write a report: *.png, *.pdf, *.csv and *.tex, and index.html last.

    In this order index.html never refers to a file that is not there yet.

    Args:
      out: the folder.
      page: content of index.html, see `document`.
      tables: {file stem: table} for CSV, in full precision.
      figures: what `render` returned.
      facts: what must stand beside the numbers, a comment above each LaTeX table.
      latex: {file stem: table} for LaTeX, rounded for print.

    Returns:
      The path of index.html.
    """
    # Each file is written whole or not at all, see `write_bytes`: a killed report leaves no torn file.
    for name, kinds in figures.items():
        for kind, content in kinds.items():
            write_bytes(out / f"{name}.{kind}", content)
    for name, table in tables.items():
        write_bytes(out / f"{name}.csv", to_csv(table))
    for name, table in latex.items():
        write_bytes(out / f"{name}.tex", to_latex(table, facts))
    write_bytes(out / "index.html", page)
    return out / "index.html"
