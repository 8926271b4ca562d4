"""A comparison on disk: one page that needs no other file, and the figures and tables beside it."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import comparison_figures, page
from experiments.comparison import (
    TERMS,
    Comparison,
    equal_compute,
    learning_curves,
    schedule_curves,
)
from experiments.comparison_text import format_band
from experiments.tables import Table, to_html

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
    tables = _tables(found)
    shown = _shown(found)
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


def _tables(found: Comparison) -> dict[str, Table]:
    """In full, for CSV."""
    tables = {"terms": _terms(found), "differences": _differences(found)}
    if found.profiles:
        profiles = {**found.profiles}
        first = next(iter(found.runs))
        profiles |= {f"{n} - {first}": p for n, p in found.gap_profiles.items()}
        tables["profile"] = _profiles(profiles)
    if found.bands:
        tables["bands"] = _bands(found)
    if found.grouped:
        tables["groups"], tables["group_differences"] = _groups(found), _group_gaps(found)
    tables["schedules"] = _curves(found, schedule_curves, ("t", "before", "after"))
    columns = ("step", "images", "flops", "seconds", "train")
    tables["learning"] = _curves(found, learning_curves, columns)
    if rows := equal_compute(found):
        tables["equal_compute"] = Table(("run", "of", "amount", "training_loss"), rows)
    return tables


def _shown(found: Comparison) -> dict[str, Table]:
    """In short, for the page and for LaTeX."""
    shown = {"totals": _totals(found)}
    if found.differences:
        shown["differences"] = _shown_differences(found)
    if found.grouped:
        shown["groups"] = _only_total(_groups(found))
        if found.grouped.gaps:
            shown["group_differences"] = _only_total(_group_gaps(found))
    if rows := equal_compute(found):
        amounts = {of: amount for _, of, amount, _ in rows}
        columns = ("run", *(f"{amount:.4g} {of}" for of, amount in amounts.items()))
        values = {(run, of): loss for run, of, _, loss in rows}
        kept = [(run, *(values[run, of] for of in amounts)) for run in found.runs]
        shown["equal_compute"] = Table(columns, kept)
    return shown


def _totals(found: Comparison) -> Table:
    rows = []
    for name, facts in found.facts.items():
        row = facts["bits_per_dim"]
        means = [row[term]["mean"] for term in TERMS]
        total = row["total"]
        rows.append((name, *means, total["standard_error"], total["monte_carlo_error"]))
    return Table(("run", *TERMS, "s.e. over images", "s.e. Monte Carlo"), rows)


def _terms(found: Comparison) -> Table:
    rows = []
    for name, facts in found.facts.items():
        for term in TERMS:
            row = facts["bits_per_dim"][term]
            errors = (row["standard_error"], row["monte_carlo_error"])
            rows.append((name, term, row["mean"], *errors, *(row["interval"] or (None, None))))
    names = ("standard_error", "monte_carlo_error", "low_95", "high_95")
    return Table(("run", "term", "bits_per_dim", *names), rows)


def _differences(found: Comparison) -> Table:
    empty = (None, None)
    rows: list[tuple] = []
    for (run, other, term), gap in found.differences.items():
        intervals = (gap.interval, gap.bootstrap, gap.given_images)
        ends = [end for interval in intervals for end in interval or empty]
        rest = (gap.p_value, gap.holm, gap.shrinkage, gap.identical)
        rows.append((run, other, term, gap.mean, *ends, *rest))
    names = [f"{which}_95{of}" for of in ("", "_bootstrap", "_these") for which in ("low", "high")]
    tail = ("p_value", "p_holm", "narrower_by_pairing", "identical")
    return Table(("run", "other", "term", "bits_per_dim", *names, *tail), rows)


def _shown_differences(found: Comparison) -> Table:
    rows: list[tuple] = []
    for (run, _, term), gap in found.differences.items():
        if gap.identical and term != "total":
            continue
        name = f"{run}: {term.replace('_', ' ')}"
        if gap.identical:
            rows.append((name, "identical", *[None] * 5))
            continue
        intervals = (gap.interval, gap.bootstrap, gap.given_images)
        rows.append((name, gap.mean, *intervals, _p(gap.holm), gap.shrinkage))
    columns = (
        f"minus {next(iter(found.runs))}",
        "mean",
        "t",
        "bootstrap",
        "these images",
        "p (Holm)",
        "narrower",
    )
    return Table(columns, rows)


def _p(value: float | None) -> float | str | None:
    return "< 0.0001" if value is not None and value < 1e-4 else value


def _profiles(profiles: Mapping[str, Any]) -> Table:
    rows = [
        (name, *values)
        for name, p in profiles.items()
        for values in zip(
            p.edges[:-1],
            p.edges[1:],
            p.density,
            p.standard_error,
            p.pointwise,
            p.simultaneous,
            strict=True,
        )
    ]
    errors = ("standard_error", "half_width_95", "half_width_95_all_bins")
    return Table(("run", "gamma_low", "gamma_high", "bits_per_dim_per_gamma", *errors), rows)


def _bands(found: Comparison) -> Table:
    rows = [
        (name, band.low, band.high, band.part, *band.interval, band.whole)
        for name, band in found.bands.items()
    ]
    names = ("bits_per_dim", "low_95_all_bands", "high_95_all_bands", "whole_denoising_term")
    return Table(("run", "gamma_low", "gamma_high", *names), rows)


def _groups(found: Comparison) -> Table:
    assert found.grouped is not None
    rows = [
        (label, term, row.num_seeds, row.mean, row.deviation, *row.interval, *row.next_seed)
        for (label, term), row in found.grouped.between.items()
    ]
    ends = ("low_95_of_mean", "high_95_of_mean", "low_95_of_next_seed", "high_95_of_next_seed")
    return Table(("group", "term", "seeds", "bits_per_dim", "between_seed_deviation", *ends), rows)


def _group_gaps(found: Comparison) -> Table:
    assert found.grouped is not None
    rows = [
        (f"{label} − {first}", term, gap.mean, *gap.interval, gap.p_value, adjusted, gap.paired)
        for (label, first, term), (gap, adjusted) in found.grouped.gaps.items()
    ]
    ends = ("low_95_between_seeds", "high_95_between_seeds", "p_value", "p_holm", "paired_by_seed")
    return Table(("groups", "term", "bits_per_dim", *ends), rows)


def _only_total(table: Table) -> Table:
    rows = [(row[0], *row[2:]) for row in table.rows if row[1] == "total"]
    return Table((table.columns[0], *table.columns[2:]), rows)


def _curves(found: Comparison, curves_of: Any, columns: Sequence[str]) -> Table:
    rows: list[Sequence[Any]] = []
    for name, run in found.runs.items():
        curves = curves_of(run)
        rows += [(name, *values) for values in zip(*(curves[c] for c in columns), strict=True)]
    return Table(("run", *columns), rows)


def _describe(found: Comparison) -> str:
    facts = next(iter(found.facts.values()))
    steps = ", ".join(f"{name}: {run.step}" for name, run in found.runs.items())
    trained = ", ".join(
        f"{name}: {f['timesteps_train'] or 'continuous'}" for name, f in found.facts.items()
    )
    common = "steps" if facts["timesteps_eval"] else "γ"
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
        f"T_eval {facts['timesteps_eval'] or 'continuous'}; T_train {trained}. "
        f"Checkpoint steps {steps}; averaged parameters; {dtypes}, matmul precision "
        f"{facts['provenance']['matmul_precision']}. {_sentence(facts['data']['notes'])}{seeds}"
    )


def _sentence(notes: str) -> str:
    return f"{notes.rstrip('.')}. " if notes else ""
