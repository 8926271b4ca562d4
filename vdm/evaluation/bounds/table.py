"""The table of several bounds, the loosest first, and the paired differences between its rows."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from vdm.evaluation.bounds.run import BoundEvaluation
from vdm.evaluation.statistics.estimate import Estimate, estimate
from vdm.runtime.tables import show_table

LEAST_RANDOMISATIONS = 8
"""Fewer randomisations give too uncertain a Monte Carlo error: the table says "not estimated"."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      bound: name of the bound, with its options where the name alone is ambiguous.
      row: name of the row within its bound, such as "T = 100, K = 4".
      estimate: mean over images in bits/dim; its Monte Carlo error and `given_images` are None below
        `LEAST_RANDOMISATIONS` values.
      evaluations: network evaluations per image, all randomisations together.
      seconds: wall-clock time of the bound's pass.
      same_model: false if it bounds the likelihood of another model than the ELBO's.
    """

    bound: str
    row: str
    estimate: Estimate
    evaluations: float
    seconds: float
    same_model: bool


@dataclasses.dataclass(frozen=True)
class Gap:
    """A row minus the next tighter one, paired by images.

    Attributes:
      looser, tighter: the two rows, as "bound: row".
      estimate: mean of the difference in bits/dim, with the errors of the difference.
    """

    looser: str
    tighter: str
    estimate: Estimate


def table_rows(evaluations: Sequence[BoundEvaluation]) -> list[Row]:
    """Return every row of every bound, the loosest first; bounds of other models come last."""
    names = _names(evaluations)
    rows = [
        row
        for evaluation, name in zip(evaluations, names, strict=True)
        for row in _rows(evaluation, name)
    ]
    return sorted(rows, key=lambda row: (not row.same_model, -row.estimate.mean))


def format_rows(rows: Sequence[Row]) -> str:
    """Return the table as text, in bits/dim, seconds and network evaluations per image."""
    titles = ("bound", "bits/dim", "95 % (images)", "s.e. (Monte Carlo)", "evaluations", "seconds")
    cells = []
    for row in rows:
        row_estimate = row.estimate
        interval = "not estimated"
        if row_estimate.interval is not None:
            interval = "[{:.4f}, {:.4f}]".format(*row_estimate.interval)
        error = row_estimate.monte_carlo_error
        shown = "not estimated" if error is None else f"{error:.4f}"
        name = f"{row.bound}: {row.row}" + ("" if row.same_model else " *")
        cost = (f"{row.evaluations:.0f}", f"{row.seconds:.1f}")
        cells.append((name, f"{row_estimate.mean:.4f}", interval, shown, *cost))
    lines = [show_table(titles, cells)]
    if not all(row.same_model for row in rows):
        lines.append("* the likelihood of another model, not comparable with the other rows")
    return "\n".join(lines)


def _names(evaluations: Sequence[BoundEvaluation]) -> list[str]:
    """Return the name of each bound, with its options where two bounds have the same name and row."""
    rows = [(one.bound.name, row) for one in evaluations for row in one.rows]
    return [
        one.bound.label
        if any(rows.count((one.bound.name, row)) > 1 for row in one.rows)
        else one.bound.name
        for one in evaluations
    ]


def _rows(evaluation: BoundEvaluation, bound_name: str) -> list[Row]:
    """Return the rows of one bound."""
    rows = []
    for name, values in evaluation.rows.items():
        row_estimate = evaluation.estimate(values)
        if len(values) < LEAST_RANDOMISATIONS:
            row_estimate = dataclasses.replace(
                row_estimate, monte_carlo_error=None, given_images=None
            )
        spent = float(evaluation.evaluations.mean())
        bound = evaluation.bound
        rows.append(
            Row(bound_name, name, row_estimate, spent, evaluation.seconds, bound.same_model)
        )
    return rows


def gaps(evaluations: Sequence[BoundEvaluation]) -> list[Gap]:
    """Return the differences between neighbouring rows that bound the likelihood of the same model.

    Values are paired by images, and by randomisations too if both rows have equally many.
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


def format_gaps(differences: Sequence[Gap]) -> str:
    """Return one line of text per pair of rows, in bits/dim; "" without pairs."""
    lines = []
    for gap in differences:
        interval = "not estimated"
        if gap.estimate.interval is not None:
            interval = "[{:+.5f}, {:+.5f}]".format(*gap.estimate.interval)
        lines.append(f"{gap.looser}  minus  {gap.tighter}: {gap.estimate.mean:+.5f} {interval}")
    return "\n".join(["differences, 95 % by pairs of images:", *lines]) if lines else ""


def _paired(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return `one` - `other` per image [R, N], or [1, N] of means over unequal numbers of values."""
    if len(one) == len(other):
        return one - other
    return (one.mean(axis=0) - other.mean(axis=0))[None]
