"""A comparison on disk: one page that needs no other file, and the figures and tables beside it."""

import base64
import csv
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import comparison_figures
from experiments.comparison import Comparison, format_difference, learning_curves, schedule_curves
from experiments.progress import Progress
from experiments.workdir import write_bytes
from vdm.objective import TERM_NAMES

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""(names of the columns, rows)."""

_CAPTIONS = {
    "terms": "Terms of the bound",
    "schedules": "Noise schedules before and after training",
    "profile": "Where the denoising term arises",
    "learning": "Learning curves",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; text-align: right }
th { border-bottom: 1px solid #888 } td:first-child, th:first-child { text-align: left }
img { max-width: 100% } figure { margin: 1.5rem 0 } .facts { color: #555 }
"""


def write(out: Path, found: Comparison) -> Path:
    """Writes index.html, *.png and *.csv into `out`; returns the page."""
    tables = _tables(found)
    drawings, figures = comparison_figures.drawings(found), {}
    with Progress("drawing", len(drawings), "figures") as bar:
        for name, draw in drawings.items():
            figures[name] = draw()
            bar.update(len(figures))
    for name, picture in figures.items():
        write_bytes(out / f"{name}.png", picture)
    for name, table in tables.items():
        write_bytes(out / f"{name}.csv", _csv(table))
    # Last, so that a page never shows what is not there.
    write_bytes(out / "index.html", _page(found, tables, figures).encode())
    return out / "index.html"


def _tables(found: Comparison) -> dict[str, Table]:
    tables: dict[str, Table] = {"terms": _terms(found), "differences": _differences(found)}
    if found.profiles:
        tables["profile"] = _profiles(found)
    tables["schedules"] = _curves(found, schedule_curves, ("t", "before", "after"))
    tables["learning"] = _curves(found, learning_curves, ("step", "images", "seconds", "train"))
    return tables


def _terms(found: Comparison) -> Table:
    rows = []
    for name, facts in found.facts.items():
        for term in (*TERM_NAMES, "total"):
            row = facts["bits_per_dim"][term]
            errors = (row["standard_error"], row["monte_carlo_error"])
            rows.append((name, term, row["mean"], *errors, *(row["interval"] or (None, None))))
    names = ("standard_error", "monte_carlo_error", "low_95", "high_95")
    return ("run", "term", "bits_per_dim", *names), rows


def _differences(found: Comparison) -> Table:
    rows = [
        (run, other, term, gap.mean, *(gap.interval or (None, None)), gap.shrinkage)
        for (run, other, term), gap in found.differences.items()
    ]
    names = ("run", "other", "term", "bits_per_dim", "low_95", "high_95", "narrower_by_pairing")
    return names, rows


def _profiles(found: Comparison) -> Table:
    rows = [
        (name, *values)
        for name, p in found.profiles.items()
        for values in zip(p.edges[:-1], p.edges[1:], p.density, p.standard_error, strict=True)
    ]
    return ("run", "gamma_low", "gamma_high", "bits_per_dim_per_gamma", "standard_error"), rows


def _curves(found: Comparison, curves_of: Any, columns: Sequence[str]) -> Table:
    rows: list[Sequence[Any]] = []
    for name, run in found.runs.items():
        curves = curves_of(run)
        rows += [(name, *values) for values in zip(*(curves[c] for c in columns), strict=True)]
    return ("run", *columns), rows


def _csv(table: Table) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(table[0])
    writer.writerows(table[1])
    return file.getvalue().encode()


def _page(found: Comparison, tables: dict[str, Table], figures: dict[str, bytes]) -> str:
    facts = next(iter(found.facts.values()))
    parts = [
        "<!doctype html><meta charset='utf-8'><title>Comparison</title>",
        f"<style>{_STYLE}</style><h1>Comparison of {len(found.runs)} runs</h1>",
        f"<p class='facts'>{html.escape(_describe(found, facts))}</p>",
        *_section("Terms", _html_table(tables["terms"])),
        *_section("Differences by pairs", _difference_list(found)),
    ]
    for name, picture in figures.items():
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        image = f"<figure><img alt='{_CAPTIONS[name]}' src='{source}'></figure>"
        parts += _section(_CAPTIONS[name], image)
    return "\n".join(parts)


def _describe(found: Comparison, facts: dict[str, Any]) -> str:
    steps = ", ".join(f"{name}: {run.step}" for name, run in found.runs.items())
    trained = ", ".join(
        f"{name}: {f['timesteps_train'] or 'continuous'}" for name, f in found.facts.items()
    )
    common = "steps" if facts["timesteps_eval"] else "γ"
    dtypes = ", ".join(sorted({f["dtype"] for f in found.facts.values()}))
    return (
        f"{facts['num_images']} images of {facts['data']['name']}/{facts['split']}, the same noise "
        f"at equal {common}, {facts['randomisations']} randomisations, "
        f"seed {facts['evaluation_seed']}. "
        f"T_eval {facts['timesteps_eval'] or 'continuous'}; T_train {trained}. "
        f"Checkpoint steps {steps}; averaged parameters; {dtypes}, matmul precision "
        f"{facts['provenance']['matmul_precision']}. {facts['data']['notes']} "
        "Every run is one training seed: the intervals say how sure the numbers of these networks are "
        "on other images, not what another seed would give."
    )


def _difference_list(found: Comparison) -> str:
    items = [
        f"<li>{html.escape(run)} − {html.escape(other)}, {term.replace('_', ' ')}: "
        f"{html.escape(format_difference(gap))}</li>"
        for (run, other, term), gap in found.differences.items()
    ]
    return f"<p>bits/dim</p><ul>{''.join(items)}</ul>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table[0])
    rows = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in table[1])
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cells(row: Sequence[Any]) -> Iterable[str]:
    for value in row:
        text = f"{value:.4f}" if isinstance(value, float) else str(value).replace("_", " ")
        yield f"<td>{html.escape(text)}</td>"


def _section(title: str, content: str) -> list[str]:
    return [f"<h2>{html.escape(title)}</h2>", content]
