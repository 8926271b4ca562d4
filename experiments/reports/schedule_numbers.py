"""Measurements of a trained schedule: its curves, the variance of the bound, the signal of gradients.

For a scalar gamma in continuous time the schedule's interior leaves the bound unchanged and changes the
variance of its estimate alone (Kingma et al. 2021, arXiv:2107.00630, section 5).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.reports.comparison.opened import Run
from vdm.data.batches import eval_batches, train_batch
from vdm.evaluation.analysis import estimator_variance
from vdm.evaluation.analysis.estimator_variance import Scatter
from vdm.evaluation.statistics.jackknife import Interval
from vdm.models.vdm.objective import objective_gradient
from vdm.models.vdm.time_density import NUM_CELLS, TimeDensity, cell_masses
from vdm.runs import checkpoints
from vdm.runs.folder import require_identity
from vdm.runs.parts import build_trained
from vdm.runs.progress import Progress
from vdm.runtime import devices
from vdm.seeds import stream_key

NUM_CURVE_POINTS = 401
"""Times in [0, 1] at which curves are computed."""
PAIRS = tuple(
    (schedule, times)
    for times in estimator_variance.TIMES
    for schedule in estimator_variance.SCHEDULES
)
"""(schedule, way to draw times) under which the variance is measured."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Measurements of one run.

    Attributes:
      run: the model and its averaged parameters.
      curves: {"t", "gamma_before", "gamma_after", "snr_...", "slope_...", "density_..."}, [points]
        each.
      scatters: {(schedule, times): Scatter}, see `vdm.evaluation.analysis.estimator_variance`.
      signal: {parameter group: |E g|^2 / tr Cov of one training step's gradient}; may be empty.
    """

    run: Run
    curves: dict[str, np.ndarray]
    scatters: dict[tuple[str, str], Scatter]
    signal: dict[str, Interval]

    def variance(self, times: str) -> Interval:
        """Return the variance of the bound's estimate under the run's schedule, (bits/dim)^2.

        Args:
          times: "iid" or "stratified".
        """
        return estimator_variance.mean_interval(self.scatters["model", times])

    def gain(self, times: str) -> Interval:
        """Return the variance under the log-SNR line over that of the run's schedule.

        The line has the same end points and the same denoiser, so the ratio is due to the interior
        alone.
        """
        return estimator_variance.ratio(
            self.scatters["model", times], self.scatters["linear", times]
        )


def open_run(folder: str, name: str, step: str) -> tuple[Run, TimeDensity | None]:
    """Open a run, and the density that its training times were last drawn from.

    Args:
      folder: the work folder.
      name: what tables and figures call the run.
      step: which checkpoint's parameters: "latest", "best" or a number.

    Returns:
      The run, and the adaptive density of times; None where times are drawn uniformly.
    """
    path = Path(folder)
    parts = build_trained(require_identity(path, "--workdirs"))
    loaded_step, params = checkpoints.load_ema(parts, path, step)
    density = None
    if parts.abstract_state().time_density is not None:
        # The density is part of the training state, of which the latest checkpoint alone is restored.
        stored = checkpoints.open_checkpoints(path, read_only=True)
        density = checkpoints.restore_state(stored, parts)[0].time_density
    return Run(name, path, parts, loaded_step, params), density


def measure(
    run: Run,
    density: TimeDensity | None,
    num_draws: int,
    num_gradients: int,
    seed: int,
    check: Callable[[], None] = lambda: None,
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> Measured:
    """Measure one run on the test split.

    Args:
      run: the run.
      density: the density that its training times were drawn from; None = uniform.
      num_draws: times and noises per image, at least 2.
      num_gradients: gradients of a training batch each; 0 leaves the signal out.
      seed: seed of times and noise.
      check: called after every batch; may raise to stop.
      pairs: which of PAIRS to measure.
    """
    # Batches of the training size: stratified times have one stratum per image of a batch.
    size = run.parts.config["train"]["batch_size"]
    batches = list(eval_batches(run.parts.dataset, "test", size))
    scatters = {}
    with Progress(f"variance of {run.name}", len(pairs) * len(batches), "batches") as bar:
        # One bar over all pairs: each call of `progress` is one batch done.
        done = iter(range(1, len(pairs) * len(batches) + 1))

        def progress():
            bar.update(next(done))
            check()

        for schedule, times in pairs:
            scatters[schedule, times] = estimator_variance.scatter(
                run.parts.model.as_diffusion("schedules"),
                run.params,
                batches,
                schedule,
                times,
                num_draws,
                seed,
                progress,
                # The density was fitted to the run's own schedule.
                density if schedule == "model" else None,
            )
    signal = gradient_signal(run, num_gradients, seed) if num_gradients else {}
    return Measured(run, curves(run, density), scatters, signal)


def gradient_signal(run: Run, num_gradients: int, seed: int) -> dict[str, Interval]:
    """Measure the signal-to-noise ratio of one training step's gradient, with times drawn uniformly.

    Args:
      run: the run, whose batch size and training split are used.
      num_gradients: batches, at least 3 for an interval.
      seed: seed of batches, times and noise.

    Returns:
      {parameter group: |E g|^2 / tr Cov with its 95 % interval}.
    """
    parts, key = run.parts, stream_key(seed, "training")
    size, batches = parts.config["train"]["batch_size"], []
    # Times, noise and batches of the first steps of training, but at the trained parameters.
    for step in range(num_gradients):
        batch = train_batch(parts.dataset, seed, step, size)
        keys, model = jax.random.fold_in(key, step), parts.model
        noise = model.training_noise(keys, size)
        batches.append((devices.place_batch(batch, parts.mesh), noise))
    return estimator_variance.gradient_signal(
        objective_gradient(parts.model.as_diffusion("schedules")), run.params, batches, key
    )


def curves(run: Run, density: TimeDensity | None) -> dict[str, np.ndarray]:
    """Compute gamma, SNR, d gamma/dt and the density of gamma, before and after training.

    Args:
      run: the run; where gamma differs between dimensions, curves are of its mean.
      density: the density of training times at the end; at the start times are uniform.

    Returns:
      The curves of `Measured`.
    """
    times = jnp.linspace(0.0, 1.0, NUM_CURVE_POINTS)
    model, seed = run.parts.model.as_diffusion("schedules"), run.parts.config["seed"]
    # The run's own seed gives the very parameters that its training started from.
    fresh = jax.jit(model.init)(stream_key(seed, "initialisation"))
    columns = {"t": np.asarray(times)}
    states = (("before", fresh, None), ("after", run.params, density))
    for when, params, drawn in states:
        pair = model.gamma_and_derivative(params, times)
        gamma, slope = (np.float64(v).reshape(NUM_CURVE_POINTS, -1).mean(axis=1) for v in pair)
        columns |= {f"gamma_{when}": gamma, f"snr_{when}": np.exp(-gamma), f"slope_{when}": slope}
        # Change of variables: p(gamma) = p(t) dt/dgamma.
        columns[f"density_{when}"] = time_density(run, params, drawn, columns["t"]) / slope
    return columns


def time_density(run: Run, params, density: TimeDensity | None, times: np.ndarray) -> np.ndarray:
    """Return the density p(t) from which training draws times, at `times`: float64 [N].

    It is piecewise constant in NUM_CELLS cells of equal width in t.

    Args:
      run: the run whose schedule is read.
      params: parameters of its model.
      density: state of the adaptive density; None for uniform times.
      times: times in [0, 1] [N].
    """
    if density is None:
        return np.ones_like(times)
    # Cells are uniform in t, so the density is the mass times the number of cells.
    mass = np.asarray(
        cell_masses(density, run.parts.model.as_diffusion("schedules").schedule, params["schedule"])
    )
    return mass[np.minimum((times * NUM_CELLS).astype(int), NUM_CELLS - 1)] * NUM_CELLS


def gains_over(first: Measured, others: Sequence[Measured], times: str) -> dict[str, Interval]:
    """Return {run: variance of the first run over that run's}, by pairs of images.

    Args:
      first: the run that the others are compared with.
      others: the runs of the ratios.
      times: "iid" or "stratified".
    """
    return {
        other.run.name: estimator_variance.ratio(
            other.scatters["model", times], first.scatters["model", times]
        )
        for other in others
    }
