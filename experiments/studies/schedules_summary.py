"""Study of schedules: its variants, the measurements of each run, and the table over seeds.

In continuous time the schedule's interior leaves the bound unchanged (Kingma et al. 2021,
arXiv:2107.00630, eq. 18); it changes the variance of the estimate and so how far equal steps of
training get.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.reports import page, schedule_numbers
from experiments.reports.page import Figure, plt
from experiments.reports.tables import Table, to_html
from experiments.sweeps.runner import Outcome
from vdm.evaluation.analysis import estimator_variance
from vdm.evaluation.statistics.between_seeds import mean_and_interval
from vdm.plots import plot_values_per_seed
from vdm.runs.folder import write_json
from vdm.runtime.hashes import sealed, unsealed

REFERENCE = "linear"
SCHEDULES = (
    REFERENCE,
    "monotone_network",
    "piecewise_linear",
    "rational_spline",
    "cosine",
    "ddpm_beta_linear",
    "sigmoid",
    "edm",
)
"""Schedules that can have the same fixed end points."""
ADAPTIVE = "linear, adaptive times"
"""Row of the runs that keep the line and draw times where the loss is large instead."""
QUANTITIES = {
    "bits_per_dim": "bits/dim",
    "iid": "variance of the bound, iid times, (bits/dim)²",
    "stratified": "variance of the bound, stratified times, (bits/dim)²",
    "iid_gain": "variance of the line over its own, iid times",
    "stratified_gain": "variance of the line over its own, stratified times",
}
"""{column: label with its unit} of what is reported."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Measurements of one run.

    Attributes:
      schedule: its row, a name in SCHEDULES or ADAPTIVE.
      seed: of training.
      values: {quantity: value} of QUANTITIES but for the gains, which need the reference's run.
    """

    schedule: str
    seed: str
    values: dict[str, float]


def axes(num_seeds: int) -> list[dict[str, tuple[str, ...]]]:
    """Return the grids: every schedule, and the line with adaptive times, each over the seeds."""
    seeds = tuple(str(seed) for seed in range(num_seeds))
    return [
        {"schedule.name": SCHEDULES, "seed": seeds},
        {"objective.times": ("adaptive",), "seed": seeds},
    ]


def measure(
    outcome: Outcome, folder: Path, num_draws: int, check: Callable[[], None]
) -> Result | None:
    """Measure a finished run, or read NAME.measured.json if it was measured before.

    Args:
      outcome: the run's.
      folder: the study's folder, which holds the work folder.
      num_draws: times and noises per image.
      check: called between batches; may raise to stop.

    Returns:
      The measurements; None for a run that is not finished.
    """
    if outcome.status != "finished":
        return None
    path = folder / f"{outcome.name}.measured.json"
    # Hashes of checkpoint, configuration and data: a run trained anew is measured anew.
    key = {"draws": num_draws, **outcome.hashes}
    try:
        stored = unsealed(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        stored = {}
    if stored.get("key") != key:
        stored = {"key": key, "variance": _variances(outcome, folder, num_draws, check)}
        write_json(path, sealed(stored))

    schedule = outcome.overrides.get("schedule.name", ADAPTIVE)
    values = {"bits_per_dim": outcome.bits_per_dim["total"], **stored["variance"]}
    return Result(schedule, outcome.overrides["seed"], values)


def _variances(outcome: Outcome, folder: Path, num_draws: int, check) -> dict[str, float]:
    """Return {way to draw times: variance of the bound's estimate, (bits/dim)^2}."""
    run, density = schedule_numbers.open_run(str(folder / outcome.name), outcome.name, "latest")
    pairs = [("model", times) for times in estimator_variance.TIMES]
    values_by_schedule = schedule_numbers.measure(run, density, num_draws, 0, 0, check, pairs)
    return {times: values_by_schedule.variance(times).value for times in estimator_variance.TIMES}


def by_schedule(results: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """Return {schedule: {quantity: one value per seed}}; gains are over the line of the same seed."""
    line = {one.seed: one.values for one in results if one.schedule == REFERENCE}
    values_by_schedule: dict[str, dict[str, list[float]]] = {}
    for one in results:
        values = dict(one.values)
        if one.seed in line:
            for times in estimator_variance.TIMES:
                values[f"{times}_gain"] = line[one.seed][times] / values[times]
        for name, value in values.items():
            values_by_schedule.setdefault(one.schedule, {}).setdefault(name, []).append(value)
    return values_by_schedule


def summary(values_by_schedule: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """Return a row per schedule: means over seeds with 95 % intervals between seeds.

    Variances and gains are averaged, and have their intervals, as logarithms.

    Args:
      values_by_schedule: what `by_schedule` returned.
    """
    rows = []
    for schedule, values in values_by_schedule.items():
        cells: list = [schedule, len(values["bits_per_dim"])]
        for name in QUANTITIES:
            cells += _mean(name, values.get(name, ()))
        rows.append(tuple(cells))
    names = [column for name in QUANTITIES for column in (name, f"{name}_95")]
    return Table(("schedule", "seeds", *names), rows)


def _mean(name: str, values: Sequence[float]) -> tuple:
    """Return the mean over seeds, geometric but for bits/dim, and its 95 % interval or None."""
    if name == "bits_per_dim":
        return mean_and_interval(values)
    mean, interval = mean_and_interval([float(np.log(v)) for v in values])
    exp = lambda v: None if v is None else float(np.exp(v))  # noqa: E731
    return exp(mean), None if interval is None else tuple(exp(v) for v in interval)


def write(
    out: Path, values_by_schedule: Mapping[str, Mapping[str, Sequence[float]]], facts: str
) -> Path:
    """Write study.csv, study.tex, study.png, study.pdf and index.html; return the path of the last.

    Args:
      out: the folder.
      values_by_schedule: what `by_schedule` returned.
      facts: runs, steps and draws, for the reader.
    """
    table = summary(values_by_schedule)
    figures = page.render({"study": functools.partial(_draw, values_by_schedule)})
    parts = [
        page.paragraph(facts, "facts"),
        page.picture(figures["study"]["png"], "Every schedule, a dot per seed"),
        to_html(table),
    ]
    document = page.document("Schedules at equal end points and equal steps", parts)
    return page.write(out, document, {"study": table}, figures, facts, {"study": table})


def _draw(values_by_schedule: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw bits/dim and both variances, a panel each, with a row per schedule."""
    shown = ("bits_per_dim", *estimator_variance.TIMES)
    size = (12, 1.4 + 0.32 * len(values_by_schedule))
    figure, panels = plt.subplots(1, len(shown), figsize=size, layout="constrained", sharey=True)
    for axes_, name in zip(panels, shown, strict=True):
        values = {schedule: quantities[name] for schedule, quantities in values_by_schedule.items()}
        means = {schedule: _mean(name, of_seeds) for schedule, of_seeds in values.items()}
        plot_values_per_seed(axes_, values, means, logarithmic=name != "bits_per_dim")
        axes_.set_xlabel(QUANTITIES[name])
    panels[0].invert_yaxis()
    return figure
