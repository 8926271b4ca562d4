"""What a trained schedule is and what it bought: curves, densities, variances, gradients."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.comparison.opened import Run
from vdm.data.batches import eval_batches, train_batch
from vdm.evaluation.analysis import estimator_variance
from vdm.evaluation.analysis.estimator_variance import Interval, Scatter
from vdm.models.vdm.objective import objective_gradient
from vdm.models.vdm.time_density import NUM_CELLS, TimeDensity, cell_masses
from vdm.runs import checkpoints
from vdm.runs.folder import require_identity
from vdm.runs.parts import build_trained
from vdm.runs.progress import Progress
from vdm.runtime import devices
from vdm.seeds import stream_key

NUM_CURVE_POINTS = 401
PAIRS = tuple(
    (shape, times) for times in estimator_variance.TIMES for shape in estimator_variance.SHAPES
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run, measured.

    Attributes:
      run: the model and its averaged parameters.
      curves: {"t", "gamma_before", ..., "snr_...", "slope_...", "density_..."}, [points] each.
      scatters: {(shape, times): Scatter}, see `vdm.evaluation.analysis.estimator_variance`.
      signal: |E g|^2 / tr Cov of the gradient by parameter group.
    """

    run: Run
    curves: dict[str, np.ndarray]
    scatters: dict[tuple[str, str], Scatter]
    signal: dict[str, Interval]

    def variance(self, times: str) -> Interval:
        """Of the bound under the run's own schedule."""
        return estimator_variance.mean_interval(self.scatters["own", times])

    def gain(self, times: str) -> Interval:
        """Variance under the log-SNR line between the same end points, over that of its own."""
        return estimator_variance.ratio(
            self.scatters["own", times], self.scatters["straight", times]
        )


def open_run(folder: str, name: str, step: str) -> tuple[Run, TimeDensity | None]:
    """The run in `folder`, and the density its times were drawn from at the last checkpoint."""
    path = Path(folder)
    parts = build_trained(require_identity(path, "--workdirs"))
    found, params = checkpoints.load_ema(parts, path, step)
    density = None
    if parts.abstract_state().time_density is not None:
        stored = checkpoints.open_checkpoints(path, read_only=True)
        density = checkpoints.restore_state(stored, parts)[0].time_density
    return Run(name, path, parts, found, params), density


def measure(
    run: Run,
    density: TimeDensity | None,
    num_draws: int,
    num_gradients: int,
    seed: int,
    check: Callable[[], None] = lambda: None,
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> Measured:
    """The numbers of one run for `pairs` of shape and times; `check` may raise to stop in between."""
    size = run.parts.config["train"]["batch_size"]
    batches = list(eval_batches(run.parts.dataset, "test", size))
    scatters = {}
    with Progress(f"variance of {run.name}", len(pairs) * len(batches), "batches") as bar:
        done = iter(range(1, len(pairs) * len(batches) + 1))

        def progress():
            bar.update(next(done))
            check()

        for shape, times in pairs:
            scatters[shape, times] = estimator_variance.scatter(
                run.parts.model.as_diffusion("schedules"),
                run.params,
                batches,
                shape,
                times,
                num_draws,
                seed,
                progress,
                density if shape == "own" else None,
            )
    signal = gradient_signal(run, num_gradients, seed) if num_gradients else {}
    return Measured(run, curves(run, density), scatters, signal)


def gradient_signal(run: Run, num_gradients: int, seed: int) -> dict[str, Interval]:
    """Signal-to-noise of one training step's gradient, with times drawn uniformly."""
    parts, key = run.parts, stream_key(seed, "training")
    size, batches = parts.config["train"]["batch_size"], []
    for step in range(num_gradients):
        batch = train_batch(parts.dataset, seed, step, size)
        keys, model = jax.random.fold_in(key, step), parts.model
        noise = model.training_noise(keys, size)
        batches.append((devices.place_batch(batch, parts.mesh), noise))
    return estimator_variance.gradient_signal(
        objective_gradient(parts.model.as_diffusion("schedules")), run.params, batches, key
    )


def curves(run: Run, density: TimeDensity | None) -> dict[str, np.ndarray]:
    """gamma, SNR, dgamma/dt and the density of gamma, of fresh and of trained parameters."""
    times = jnp.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    model, seed = run.parts.model.as_diffusion("schedules"), run.parts.config["seed"]
    fresh = jax.jit(model.init)(stream_key(seed, "initialisation"))
    found = {"t": np.asarray(times)}
    states = (("before", fresh, None), ("after", run.params, density))
    for when, params, drawn in states:
        pair = model.gamma_and_derivative(params, times)
        gamma, slope = (np.float64(v).reshape(NUM_CURVE_POINTS, -1).mean(axis=1) for v in pair)
        found |= {f"gamma_{when}": gamma, f"snr_{when}": np.exp(-gamma), f"slope_{when}": slope}
        found[f"density_{when}"] = time_density(run, params, drawn, found["t"]) / slope
    return found


def time_density(run: Run, params, density: TimeDensity | None, times: np.ndarray) -> np.ndarray:
    """p(t) that training draws from."""
    if density is None:
        return np.ones_like(times)
    mass = np.asarray(
        cell_masses(density, run.parts.model.as_diffusion("schedules").schedule, params["schedule"])
    )
    return mass[np.minimum((times * NUM_CELLS).astype(int), NUM_CELLS - 1)] * NUM_CELLS


def gains_over(first: Measured, others: Sequence[Measured], times: str) -> dict[str, Interval]:
    """The variance of the first run over that of each other one, by pairs of images."""
    return {
        other.run.name: estimator_variance.ratio(
            other.scatters["own", times], first.scatters["own", times]
        )
        for other in others
    }
