"""Page of a comparison: its sections, and the sentences that must stand beside its numbers."""

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


def write(out: Path, comparison: Comparison) -> Path:
    """Write index.html, *.png, *.pdf, *.csv and *.tex into `out`; return the path of index.html."""
    tables = comparison_tables.in_full(comparison)
    shown = comparison_tables.in_short(comparison)
    figures = page.render(comparison_figures.drawings(comparison))
    facts = "\n".join([_describe(comparison), *comparison.notes])
    content = page.document(
        f"Comparison of {len(comparison.runs)} runs", _parts(comparison, shown, figures, facts)
    )
    return page.write(out, content, tables, figures, facts, shown)


def _parts(
    comparison: Comparison, shown: Mapping[str, Table], figures: Mapping[str, Mapping], facts: str
) -> list[str]:
    """Return the sections of the page in HTML, from the numbers to what explains them.

    Args:
      comparison: the runs and their numbers.
      shown: tables rounded for readers, see `tables.in_short`.
      figures: {file stem: content of its files}, see `page.render`.
      facts: what must stand beside the numbers, a paragraph per line.
    """
    sections = [page.paragraph(line, "facts") for line in facts.splitlines()]
    sections.append(page.section("Bits per dimension", to_html(shown["totals"])))
    # Absent where no other run shares the first one's images.
    if "differences" in shown:
        sections.append(
            page.section("Differences by pairs", to_html(shown["differences"]), _METHOD)
        )
    # In continuous time alone; each band was chosen after looking, and its interval allows for that.
    if comparison.bands:
        lines = [f"{name}: {format_band(band)}" for name, band in comparison.bands.items()]
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        sections.append(page.section("The band of γ that made the difference", f"<ul>{items}</ul>"))
    if "groups" in shown:
        sections.append(page.section("Between seeds", to_html(shown["groups"])))
        if "group_differences" in shown:
            sections.append(to_html(shown["group_differences"]))
    for name, kinds in figures.items():
        sections.append(page.section(_CAPTIONS[name], page.picture(kinds["png"], _CAPTIONS[name])))
    if "equal_compute" in shown:
        title = "Training loss at equal compute"
        sections.append(page.section(title, to_html(shown["equal_compute"]), _COMPUTE))
    return sections


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


def _describe(comparison: Comparison) -> str:
    """Return images, noise, T, checkpoints and precision of the comparison as one paragraph."""
    facts = next(iter(comparison.facts.values()))
    steps = ", ".join(f"{name}: {run.step}" for name, run in comparison.runs.items())
    trained = ", ".join(
        f"{name}: {steps_name(f['timesteps_train'])}" for name, f in comparison.facts.items()
    )

    # T steps share their step numbers, continuous times their gammas.
    timesteps = next(iter(comparison.evaluations.values())).estimation.num_timesteps
    common = "steps" if timesteps else "γ"
    dtypes = ", ".join(sorted({f["dtype"] for f in comparison.facts.values()}))
    seeds = (
        "Intervals between seeds stand apart from those over images; neither contains the other."
        if comparison.grouped
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
    """Return notes on the data with one full stop and a space at their end; "" for none."""
    return f"{notes.rstrip('.')}. " if notes else ""
