"""Evaluations of bounds -> one ordered table, and the differences between its rows by pairs."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from vdm.evaluation.bounds.run import BoundEvaluation
from vdm.evaluation.statistics.estimate import Estimate, estimate
from vdm.runtime.tables import show_table

LEAST_RANDOMISATIONS = 8
"""Fewer give no Monte Carlo error worth printing: it is then "not estimated"."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: its estimate, and what it took.

    What the scatter of fewer than `LEAST_RANDOMISATIONS` would give is None.
    """

    bound: str
    row: str
    estimate: Estimate
    evaluations: float
    seconds: float
    same_model: bool


@dataclasses.dataclass(frozen=True)
class Gap:
    """A row minus the next tighter one, image by image; the error over images is of the difference."""

    looser: str
    tighter: str
    estimate: Estimate


def table_rows(evaluations: Sequence[BoundEvaluation]) -> list[Row]:
    """Every row of every bound, the loosest first; those of other models last."""
    names = _names(evaluations)
    rows = [
        row
        for evaluation, name in zip(evaluations, names, strict=True)
        for row in _rows(evaluation, name)
    ]
    return sorted(rows, key=lambda row: (not row.same_model, -row.estimate.mean))


def format_rows(rows: Sequence[Row]) -> str:
    """The table for the reader, bits/dim."""
    titles = ("bound", "bits/dim", "95 % (images)", "s.e. (Monte Carlo)", "evaluations", "seconds")
    cells = []
    for row in rows:
        found = row.estimate
        interval = "not estimated"
        if found.interval is not None:
            interval = "[{:.4f}, {:.4f}]".format(*found.interval)
        error = found.monte_carlo_error
        shown = "not estimated" if error is None else f"{error:.4f}"
        name = f"{row.bound}: {row.row}" + ("" if row.same_model else " *")
        cost = (f"{row.evaluations:.0f}", f"{row.seconds:.1f}")
        cells.append((name, f"{found.mean:.4f}", interval, shown, *cost))
    lines = [show_table(titles, cells)]
    if not all(row.same_model for row in rows):
        lines.append("* the likelihood of another model: no bound of the same as the others")
    return "\n".join(lines)


def _names(evaluations: Sequence[BoundEvaluation]) -> list[str]:
    """Of each its bound's name, or with its options where two give the same row."""
    rows = [(one.bound.name, row) for one in evaluations for row in one.rows]
    return [
        one.bound.label
        if any(rows.count((one.bound.name, row)) > 1 for row in one.rows)
        else one.bound.name
        for one in evaluations
    ]


def _rows(evaluation: BoundEvaluation, bound_name: str) -> list[Row]:
    rows = []
    for name, values in evaluation.rows.items():
        found = evaluation.estimate(values)
        if len(values) < LEAST_RANDOMISATIONS:
            found = dataclasses.replace(found, monte_carlo_error=None, given_images=None)
        spent = float(evaluation.evaluations.mean())
        bound = evaluation.bound
        rows.append(Row(bound_name, name, found, spent, evaluation.seconds, bound.same_model))
    return rows


def gaps(evaluations: Sequence[BoundEvaluation]) -> list[Gap]:
    """Differences between neighbours of the table that bound the same model's likelihood.

    Paired within each randomisation where both have as many, else between means over them.
    """
    values = {
        f"{bound}: {name}": (row, evaluation.num_dims)
        for evaluation, bound in zip(evaluations, _names(evaluations), strict=True)
        for name, row in evaluation.rows.items()
        if evaluation.bound.same_model
    }
    names = sorted(values, key=lambda name: -values[name][0].mean())
    return [
        Gap(one, other, estimate(_paired(values[one][0], values[other][0]), values[one][1]))
        for one, other in itertools.pairwise(names)
    ]


def format_gaps(found: Sequence[Gap]) -> str:
    """One line a pair, bits/dim."""
    lines = []
    for gap in found:
        interval = "not estimated"
        if gap.estimate.interval is not None:
            interval = "[{:+.5f}, {:+.5f}]".format(*gap.estimate.interval)
        lines.append(f"{gap.looser}  minus  {gap.tighter}: {gap.estimate.mean:+.5f} {interval}")
    return "\n".join(["differences, 95 % by pairs of images:", *lines]) if lines else ""


def _paired(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    if len(one) == len(other):
        return one - other
    return (one.mean(axis=0) - other.mean(axis=0))[None]
