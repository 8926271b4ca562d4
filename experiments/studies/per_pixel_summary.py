"""The study of schedules per pixel and per image: what is varied, its terms over seeds, its cost."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import interleaved
from experiments.reports.tables import Table
from experiments.sweeps.grid import Point
from experiments.sweeps.runner import Outcome
from vdm.evaluation.statistics.between_seeds import mean_and_interval
from vdm.models.base import count_parameters
from vdm.runs.parts import build
from vdm.types import TERM_NAMES

REFERENCE = "linear"
KINDS = {
    REFERENCE: {},
    "pixel_polynomial": {"optimizer.interior_learning_rate": ("0.004",)},
    "conditional_polynomial": {
        "optimizer.interior_learning_rate": ("0.004",),
        "context.name": ("gaussian",),
    },
}
"""{schedule: what else it needs}."""
_NAMES = (*TERM_NAMES, "total")


def axes(num_seeds: int) -> list[dict[str, tuple[str, ...]]]:
    """The grids, one per kind."""
    seeds = tuple(str(seed) for seed in range(num_seeds))
    return [{"schedule.name": (name,), **others, "seed": seeds} for name, others in KINDS.items()]


def summary(outcomes: Sequence[Outcome]) -> Table:
    """A row per kind: every term in bits/dim, mean and 95 % interval between seeds.

    The last column is the total minus the reference's of the same seed, with an interval over seeds.
    """
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for one in outcomes:
        if one.status == "finished":
            group = groups.setdefault(one.overrides["schedule.name"], {})
            group[one.overrides["seed"]] = one.bits_per_dim
    rows = []
    for kind, seeds in groups.items():
        cells: list = [kind, len(seeds)]
        for name in _NAMES:
            cells += mean_and_interval([terms[name] for terms in seeds.values()])
        line = groups.get(REFERENCE, {})
        gaps = [seeds[s]["total"] - line[s]["total"] for s in seeds if s in line]
        cells += (None, None) if kind == REFERENCE else mean_and_interval(gaps)
        rows.append(tuple(cells))
    names = [column for name in (*_NAMES, "minus_linear") for column in (name, f"{name}_95")]
    return Table(("schedule", "seeds", *names), rows)


def time_steps(runs: Sequence[Point], rounds: int, check: Callable[[], None]) -> Table:
    """A row per kind: parameters, and the time of a training step over the reference's.

    All kinds take a step in every round, so that a busy machine slows them alike.
    """
    first: dict[str, Point] = {}
    for point in runs:
        first.setdefault(point.overrides["schedule.name"], point)
    steps, states, batches, sizes = {}, {}, {}, {}
    for kind, point in first.items():
        parts = build(point.config)
        states[kind], batches[kind] = parts.fresh_state(), parts.train_batch(0)
        sizes[kind] = {n: count_parameters(p) for n, p in states[kind].params.items()}
        steps[kind] = parts.train_step()

    def step(kind: str) -> Any:
        states[kind], metrics = steps[kind](states[kind], batches[kind])
        return metrics

    calls = {kind: functools.partial(step, kind) for kind in steps}
    seconds = interleaved.time_in_turns(calls, rounds, check)
    columns = ("schedule", "denoiser", "of_schedule", "encoder", "seconds", "ratio", "ratio_95")
    return Table(columns, [_row(kind, sizes[kind], seconds) for kind in steps])


def _row(kind: str, sizes: dict[str, int], seconds: dict[str, list[float]]) -> tuple:
    counts = [sizes.get(name, 0) for name in ("denoiser", "schedule", "encoder")]
    ratio, interval = interleaved.ratio(seconds[kind], seconds[REFERENCE])
    median = float(np.median(seconds[kind]))
    return (kind, *counts, median, ratio, None if kind == REFERENCE else interval)
