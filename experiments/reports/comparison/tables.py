"""Tables of a comparison: every number for CSV, and a selection for readers."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports.comparison.curves import (
    equal_compute,
    learning_curves,
    schedule_curves,
    with_schedules,
)
from experiments.reports.comparison.numbers import TERMS, Comparison
from experiments.reports.tables import Table


def in_full(comparison: Comparison) -> dict[str, Table]:
    """Return {file stem: table} with every number of the comparison, for CSV."""
    tables = {"terms": _terms(comparison), "differences": _differences(comparison)}
    # Differences stand below the runs in one table: their columns are the same.
    if comparison.profiles:
        profiles = {**comparison.profiles}
        first = next(iter(comparison.runs))
        profiles |= {f"{n} - {first}": p for n, p in comparison.gap_profiles.items()}
        tables["profile"] = _profiles(profiles)
    if comparison.bands:
        tables["bands"] = _bands(comparison)
    if comparison.grouped:
        tables["groups"], tables["group_differences"] = _groups(comparison), _group_gaps(comparison)
    if scheduled := with_schedules(comparison.runs):
        tables["schedules"] = _curves(scheduled, schedule_curves, ("t", "before", "after"))
    columns = ("step", "images", "flops", "seconds", "train")
    tables["learning"] = _curves(comparison.runs, learning_curves, columns)
    if rows := equal_compute(comparison.runs):
        tables["equal_compute"] = Table(("run", "of", "amount", "training_loss"), rows)
    return tables


def in_short(comparison: Comparison) -> dict[str, Table]:
    """Return {name: table} of totals and differences, for the page and for LaTeX."""
    shown = {"totals": _totals(comparison)}
    if comparison.differences:
        shown["differences"] = _shown_differences(comparison)
    if comparison.grouped:
        shown["groups"] = _only_total(_groups(comparison))
        if comparison.grouped.gaps:
            shown["group_differences"] = _only_total(_group_gaps(comparison))
    if rows := equal_compute(comparison.runs):
        amounts = {of: amount for _, of, amount, _ in rows}
        # One column per amount of compute, in place of one row.
        columns = ("run", *(f"{amount:.4g} {of}" for of, amount in amounts.items()))
        values = {(run, of): loss for run, of, _, loss in rows}
        losses = [(run, *(values[run, of] for of in amounts)) for run in comparison.runs]
        shown["equal_compute"] = Table(columns, losses)
    return shown


def _totals(comparison: Comparison) -> Table:
    """Return a row per run: means of all terms, and both errors of the total, bits/dim."""
    rows = []
    for name, facts in comparison.facts.items():
        row = facts["bits_per_dim"]
        means = [row[term]["mean"] for term in TERMS]
        total = row["total"]
        rows.append((name, *means, total["standard_error"], total["monte_carlo_error"]))
    return Table(("run", *TERMS, "s.e. over images", "s.e. Monte Carlo"), rows)


def _terms(comparison: Comparison) -> Table:
    """Return a row per run and term with errors and 95 % interval, bits/dim."""
    rows = []
    for name, facts in comparison.facts.items():
        for term in TERMS:
            row = facts["bits_per_dim"][term]
            errors = (row["standard_error"], row["monte_carlo_error"])
            rows.append((name, term, row["mean"], *errors, *(row["interval"] or (None, None))))
    names = ("standard_error", "monte_carlo_error", "low_95", "high_95")
    return Table(("run", "term", "bits_per_dim", *names), rows)


def _differences(comparison: Comparison) -> Table:
    """Return a row per run and term: its difference from the first run, all intervals and p values."""
    # Intervals that were not estimated leave both of their cells empty.
    empty = (None, None)
    rows: list[tuple] = []
    for (run, other, term), gap in comparison.differences.items():
        intervals = (gap.interval, gap.bootstrap, gap.given_images)
        ends = [end for interval in intervals for end in interval or empty]
        rest = (gap.p_value, gap.holm, gap.shrinkage, gap.identical)
        rows.append((run, other, term, gap.mean, *ends, *rest))
    names = [f"{which}_95{of}" for of in ("", "_bootstrap", "_these") for which in ("low", "high")]
    tail = ("p_value", "p_holm", "narrower_by_pairing", "identical")
    return Table(("run", "other", "term", "bits_per_dim", *names, *tail), rows)


def _shown_differences(comparison: Comparison) -> Table:
    """Return the differences without the terms that are identical by construction."""
    rows: list[tuple] = []
    for (run, _, term), gap in comparison.differences.items():
        # Runs with equal end points agree exactly in reconstruction and prior matching.
        if gap.identical and term != "total":
            continue
        name = f"{run}: {term.replace('_', ' ')}"
        if gap.identical:
            rows.append((name, "identical", *[None] * 5))
            continue
        intervals = (gap.interval, gap.bootstrap, gap.given_images)
        rows.append((name, gap.mean, *intervals, _p(gap.holm), gap.shrinkage))
    columns = (
        f"minus {next(iter(comparison.runs))}",
        "mean",
        "t",
        "bootstrap",
        "these images",
        "p (Holm)",
        "narrower",
    )
    return Table(columns, rows)


def _p(value: float | None) -> float | str | None:
    """Return a p value; bootstrap and t approximations say nothing about its size below 1e-4."""
    return "< 0.0001" if value is not None and value < 1e-4 else value


def _profiles(profiles: Mapping[str, Any]) -> Table:
    """Return a row per run, or difference, and bin of gamma."""
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
    # Half-widths of bands around the density: for each bin by itself, and for all bins at once.
    errors = ("standard_error", "half_width_95", "half_width_95_all_bins")
    return Table(("run", "gamma_low", "gamma_high", "bits_per_dim_per_gamma", *errors), rows)


def _bands(comparison: Comparison) -> Table:
    """Return a row per run: the band of gamma with most of its difference from the first run."""
    rows = [
        (name, band.low, band.high, band.part, *band.interval, band.whole)
        for name, band in comparison.bands.items()
    ]
    names = ("bits_per_dim", "low_95_all_bands", "high_95_all_bands", "whole_denoising_term")
    return Table(("run", "gamma_low", "gamma_high", *names), rows)


def _groups(comparison: Comparison) -> Table:
    """Return a row per group of seeds and term, with intervals between seeds."""
    assert comparison.grouped is not None
    rows = [
        (label, term, row.num_seeds, row.mean, row.deviation, *row.interval, *row.next_seed)
        for (label, term), row in comparison.grouped.between.items()
    ]
    ends = ("low_95_of_mean", "high_95_of_mean", "low_95_of_next_seed", "high_95_of_next_seed")
    return Table(("group", "term", "seeds", "bits_per_dim", "between_seed_deviation", *ends), rows)


def _group_gaps(comparison: Comparison) -> Table:
    """Return a row per group and term: its difference from the first group."""
    assert comparison.grouped is not None
    rows = [
        (f"{label} − {first}", term, gap.mean, *gap.interval, gap.p_value, adjusted, gap.paired)
        for (label, first, term), (gap, adjusted) in comparison.grouped.gaps.items()
    ]
    ends = ("low_95_between_seeds", "high_95_between_seeds", "p_value", "p_holm", "paired_by_seed")
    return Table(("groups", "term", "bits_per_dim", *ends), rows)


def _only_total(table: Table) -> Table:
    """Return the rows whose second column, the term, is the total, without that column."""
    rows = [(row[0], *row[2:]) for row in table.rows if row[1] == "total"]
    return Table((table.columns[0], *table.columns[2:]), rows)


def _curves(runs: Mapping[str, Any], curves_of: Any, columns: Sequence[str]) -> Table:
    """Return a row per run and point of its curves, `curves_of(run)`."""
    rows: list[Sequence[Any]] = []
    for name, run in runs.items():
        curves = curves_of(run)
        rows += [(name, *values) for values in zip(*(curves[c] for c in columns), strict=True)]
    return Table(("run", *columns), rows)
