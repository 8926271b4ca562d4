"""Curves of the runs of a comparison: their schedules, and how they learned at equal compute."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.comparison.opened import Run
from vdm.runs.flops import train_step_flops
from vdm.runs.history import training_curves
from vdm.seeds import stream_key

NUM_CURVE_POINTS = 201
NUM_CONTEXTS = 16

COMPUTE = {"images": "images seen", "flops": "FLOPs of training", "seconds": "seconds of training"}
"""Amounts at which training losses are compared: {column of `learning_curves`: label}."""


def with_schedules(runs: Mapping[str, Run]) -> dict[str, Run]:
    """Return the runs whose model has noise levels gamma."""
    return {n: r for n, r in runs.items() if r.parts.model.noise_range(r.params) is not None}


def schedule_curves(run: Run) -> dict[str, np.ndarray]:
    """Return gamma(t) before and after training, the mean over dimensions.

    For a schedule conditional on the image it is the mean over NUM_CONTEXTS contexts c ~ p(c) too.

    Returns:
      {"t", "before", "after"}, each [NUM_CURVE_POINTS].
    """
    times = jnp.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    model, seed = run.parts.model.as_diffusion("schedule curves"), run.parts.config["seed"]
    curves = {"t": np.asarray(times)}

    # The run's own seed gives the very parameters that its training started from.
    fresh = jax.jit(model.init)(stream_key(seed, "initialisation"))

    # One set of contexts for both, so that the curves differ by training alone.
    drawn = model.sample_context(jax.random.split(stream_key(seed, "context"), NUM_CONTEXTS))
    contexts = [None] if drawn is None else [jnp.tile(c, (NUM_CURVE_POINTS, 1)) for c in drawn]

    for name, params in (("before", fresh), ("after", run.params)):
        gammas = [model.gamma(params, times, c) for c in contexts]
        means = [np.asarray(g.reshape(NUM_CURVE_POINTS, -1).mean(axis=1)) for g in gammas]
        curves[name] = np.mean(means, axis=0)
    return curves


def learning_curves(run: Run) -> dict[str, np.ndarray]:
    """Return the logged training losses with the amounts of COMPUTE spent up to each.

    Returns:
      {"step", "images", "flops", "seconds", "train"}, [logged steps] each: "train" in bits/dim,
      "flops" nan where XLA counts none.
    """
    curves = training_curves(run.folder)
    per_step = _flops(run) if len(curves["step"]) else None
    return {**curves, "flops": curves["step"] * (np.nan if per_step is None else per_step)}


@functools.lru_cache(maxsize=64)
def _flops(run: Run) -> float | None:
    """Return the FLOPs of a training step; cached, as lowering the step takes seconds."""
    return train_step_flops(run.parts)


def equal_compute(runs: Mapping[str, Run]) -> list[tuple[str, str, float, float]]:
    """Return the training losses at the largest amount of compute that every run reached.

    Returns:
      [(run, label of the amount, amount, training loss in bits/dim)], interpolated between logged
      steps; amounts that some run has not logged are left out.
    """
    curves = {name: learning_curves(run) for name, run in runs.items()}
    rows = []
    for column, title in COMPUTE.items():
        if not all(len(c[column]) and np.all(np.isfinite(c[column])) for c in curves.values()):
            continue
        amount = min(float(c[column][-1]) for c in curves.values())
        rows += [
            (name, title, amount, float(np.interp(amount, c[column], c["train"])))
            for name, c in curves.items()
        ]
    return rows
