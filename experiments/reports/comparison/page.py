"""A comparison on disk: one page that needs no other file, and the figures and tables beside it."""

import html
from collections.abc import Mapping
from pathlib import Path

from experiments.reports import page
from experiments.reports.comparison import figures as comparison_figures
from experiments.reports.comparison import tables as comparison_tables
from experiments.reports.comparison.numbers import Comparison
from experiments.reports.comparison.text import format_band
from experiments.reports.tables import Table, to_html
from vdm.runs.record import steps_name

_CAPTIONS = {
    "terms": "Terms of the bound",
    "seeds": "Totals of every seed",
    "schedules": "Noise schedules before and after training",
    "profile": "Where the denoising term arises",
    "difference_profile": "Where the difference arises",
    "learning": "Learning at equal compute",
}


def write(out: Path, found: Comparison) -> Path:
    """Writes index.html, *.png, *.pdf, *.csv and *.tex into `out`; returns the page."""
    tables = comparison_tables.in_full(found)
    shown = comparison_tables.in_short(found)
    figures = page.render(comparison_figures.drawings(found))
    facts = "\n".join([_describe(found), *found.notes])
    content = page.document(
        f"Comparison of {len(found.runs)} runs", _parts(found, shown, figures, facts)
    )
    return page.write(out, content, tables, figures, facts, shown)


def _parts(
    found: Comparison, shown: Mapping[str, Table], figures: Mapping[str, Mapping], facts: str
) -> list[str]:
    parts = [page.paragraph(line, "facts") for line in facts.splitlines()]
    parts.append(page.section("Bits per dimension", to_html(shown["totals"])))
    if "differences" in shown:
        parts.append(page.section("Differences by pairs", to_html(shown["differences"]), _METHOD))
    if found.bands:
        lines = [f"{name}: {format_band(band)}" for name, band in found.bands.items()]
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        parts.append(page.section("The band of γ that made the difference", f"<ul>{items}</ul>"))
    if "groups" in shown:
        parts.append(page.section("Between seeds", to_html(shown["groups"])))
        if "group_differences" in shown:
            parts.append(to_html(shown["group_differences"]))
    for name, kinds in figures.items():
        parts.append(page.section(_CAPTIONS[name], page.picture(kinds["png"], _CAPTIONS[name])))
    if "equal_compute" in shown:
        title = "Training loss at equal compute"
        parts.append(page.section(title, to_html(shown["equal_compute"]), _COMPUTE))
    return parts


_METHOD = page.paragraph(
    "bits/dim, each run minus the first, on the same images and noise. Intervals are of 95 %: t and "
    "bootstrap for the population of images, the third for these images alone. p is of no "
    "difference in the population; Holm adjusts it, within a term, for the number of runs.",
    "facts",
)


_COMPUTE = page.paragraph(
    "At the largest amount that every run reached, of the loss as logged. FLOPs are XLA's count of the "
    "training step before optimisation; seconds hold whatever else the machine did.",
    "facts",
)


def _describe(found: Comparison) -> str:
    facts = next(iter(found.facts.values()))
    steps = ", ".join(f"{name}: {run.step}" for name, run in found.runs.items())
    trained = ", ".join(
        f"{name}: {steps_name(f['timesteps_train'])}" for name, f in found.facts.items()
    )
    timesteps = next(iter(found.evaluations.values())).estimation.num_timesteps
    common = "steps" if timesteps else "γ"
    dtypes = ", ".join(sorted({f["dtype"] for f in found.facts.values()}))
    seeds = (
        "Intervals between seeds stand apart from those over images; neither contains the other."
        if found.grouped
        else "Every run is one training seed: the intervals say how sure the numbers of these "
        "networks are on other images, not what another seed would give."
    )
    return (
        f"{facts['num_images']} images of {facts['data']['name']}/{facts['split']} "
        f"({facts['missing_images']} missing), the same noise "
        f"at equal {common}, {facts['randomisations']} randomisations, "
        f"seed {facts['evaluation_seed']}. "
        f"T_eval {steps_name(timesteps)}; T_train {trained}. "
        f"Checkpoint steps {steps}; averaged parameters; {dtypes}, matmul precision "
        f"{facts['provenance']['matmul_precision']}. {_sentence(facts['data']['notes'])}{seeds}"
    )


def _sentence(notes: str) -> str:
    return f"{notes.rstrip('.')}. " if notes else ""
