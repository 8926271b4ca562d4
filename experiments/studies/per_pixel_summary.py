"""Study of schedules per pixel and per image: its variants, their terms over seeds, and their cost.

The variants are those of Sahoo et al. 2023, MuLAN (arXiv:2312.13236), beside the log-SNR line.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import interleaved
from experiments.reports.tables import Table
from experiments.sweeps.grid import Point
from experiments.sweeps.runner import Outcome
from vdm.evaluation.statistics.between_seeds import mean_and_interval
from vdm.models.parameters import count_parameters
from vdm.runs.parts import build
from vdm.types import TERM_NAMES

REFERENCE = "linear"
"""Schedule that the others are compared with."""
KINDS = {
    REFERENCE: {},
    "pixel_polynomial": {"optimizer.interior_learning_rate": ("0.004",)},
    "conditional_polynomial": {
        "optimizer.interior_learning_rate": ("0.004",),
        "context.name": ("gaussian",),
    },
}
"""{schedule: further overrides that it needs}; the learning rate of the interior was not tuned."""
_NAMES = (*TERM_NAMES, "total")


def axes(num_seeds: int) -> list[dict[str, tuple[str, ...]]]:
    """Return the grids, one per variant, each over the seeds from 0 to num_seeds - 1."""
    seeds = tuple(str(seed) for seed in range(num_seeds))
    return [{"schedule.name": (name,), **others, "seed": seeds} for name, others in KINDS.items()]


def summary(outcomes: Sequence[Outcome]) -> Table:
    """Return a row per variant: every term in bits/dim, its mean and 95 % interval between seeds.

    The last columns are the total minus the reference's of the same seed, with an interval over seeds.

    Args:
      outcomes: runs of the grids; those that are not finished are left out.
    """
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for outcome in outcomes:
        if outcome.status == "finished":
            group = groups.setdefault(outcome.overrides["schedule.name"], {})
            group[outcome.overrides["seed"]] = outcome.bits_per_dim

    rows = []
    for kind, seeds in groups.items():
        cells: list = [kind, len(seeds)]
        for name in _NAMES:
            cells += mean_and_interval([terms[name] for terms in seeds.values()])
        # Equal seeds draw equal batches and noise: the differences vary less than the totals.
        line = groups.get(REFERENCE, {})
        gaps = [seeds[s]["total"] - line[s]["total"] for s in seeds if s in line]
        cells += (None, None) if kind == REFERENCE else mean_and_interval(gaps)
        rows.append(tuple(cells))
    names = [column for name in (*_NAMES, "minus_linear") for column in (name, f"{name}_95")]
    return Table(("schedule", "seeds", *names), rows)


def time_steps(runs: Sequence[Point], rounds: int, check: Callable[[], None]) -> Table:
    """Return a row per variant: parameters, and the time of a training step over the reference's.

    Args:
      runs: points of all grids, the reference among them.
      rounds: timed steps of each variant, 3 or more.
      check: called before every round; may raise to stop.
    """
    # The seed changes no cost: one run stands for each variant.
    first: dict[str, Point] = {}
    for point in runs:
        first.setdefault(point.overrides["schedule.name"], point)

    steps, states, batches, sizes = {}, {}, {}, {}
    for kind, point in first.items():
        parts = build(point.config)
        states[kind], batches[kind] = parts.fresh_state(), parts.train_batch(0)
        sizes[kind] = {n: count_parameters(p) for n, p in states[kind].params.items()}
        steps[kind] = parts.train_step()

    # Each step takes the state of the one before it, whose buffers are donated.
    def step(kind: str) -> Any:
        states[kind], metrics = steps[kind](states[kind], batches[kind])
        return metrics

    calls = {kind: functools.partial(step, kind) for kind in steps}
    seconds = interleaved.time_in_turns(calls, rounds, check)
    columns = ("schedule", "denoiser", "of_schedule", "encoder", "seconds", "ratio", "ratio_95")
    return Table(columns, [_row(kind, sizes[kind], seconds) for kind in steps])


def _row(kind: str, sizes: dict[str, int], seconds: dict[str, list[float]]) -> tuple:
    """Return the cells of one variant: parameters, median seconds, ratio to the reference."""
    counts = [sizes.get(name, 0) for name in ("denoiser", "schedule", "encoder")]
    ratio, interval = interleaved.ratio(seconds[kind], seconds[REFERENCE])
    median = float(np.median(seconds[kind]))
    return (kind, *counts, median, ratio, None if kind == REFERENCE else interval)
