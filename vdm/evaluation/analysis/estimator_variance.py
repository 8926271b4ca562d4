"""Variance of the continuous-time ELBO estimate over (t, eps), and signal-to-noise of its gradient.

Let L be the estimate of the bound of an image x in bits/dim from one time t and one noise eps. Its
variance is what Kingma et al. 2021 (arXiv:2107.00630, sec. 5.3) minimise by the schedule. From R draws,

    iid          Var(L | x), with t uniform and independent
    stratified   B Var(mean of L over a batch | its images), with t in B strata, as in training

both in (bits/dim)^2 per image, averaged over images. Stratification removes the variance between
strata; what differs within a stratum remains, mostly the variance over eps. The interior of a
schedule, between its end points, changes only the variance over t, so that it gains less for
stratified times.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vdm.evaluation.bounds.base import require_scalar
from vdm.evaluation.statistics.estimate import t_interval
from vdm.evaluation.statistics.jackknife import Interval, jackknife, log_jackknife
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.microbatches import GradientFn
from vdm.models.vdm.elbo import NoiseLevels, noise_levels, terms_at
from vdm.models.vdm.groups import group_labels
from vdm.models.vdm.noise import Noise, stratified_times
from vdm.models.vdm.time_density import TimeDensity
from vdm.models.vdm.time_density import draw as draw_times
from vdm.schedules.base import per_example
from vdm.seeds import stream_key
from vdm.types import Batch, Params, bits_per_dim

TIMES: dict[str, Callable] = {
    "iid": lambda key, size: jax.random.uniform(key, (size,)),
    "stratified": stratified_times,
}
"""{how times are drawn: (key, batch size) -> uniform in [0, 1) [B]}."""


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Variances of the estimate over times and noise, one per independent unit.

    A unit is an image for iid times and a batch for stratified times, whose images share the strata.

    Attributes:
      values: unbiased variance of each unit in (bits/dim)^2, per image [N].
      means: mean of each unit in bits/dim [N].
    """

    values: np.ndarray
    means: np.ndarray


def model_schedule(model: DiffusionModel, params: Params, times) -> NoiseLevels:
    """Return the noise levels of the model's schedule at `times` [B], in continuous time."""
    return noise_levels(model, params, times, 0)


def linear_schedule(model: DiffusionModel, params: Params, times) -> NoiseLevels:
    """Return the noise levels of a gamma linear in t between the model's end points, at `times` [B].

    The reference that a learned interior is compared with, for the same denoiser and end points.
    """
    gamma_0, gamma_1 = model.end_gammas(params)
    t = per_example(times)
    slope = jnp.broadcast_to(gamma_1 - gamma_0, t.shape)
    return NoiseLevels(gamma_0, gamma_1, (1.0 - t) * gamma_0 + t * gamma_1, 0.5 * slope)


SCHEDULES: dict[str, Callable[[DiffusionModel, Params, jax.Array], NoiseLevels]] = {
    "model": model_schedule,
    "linear": linear_schedule,
}
"""The schedules under which the variance of one denoiser is measured."""


def scatter(
    model: DiffusionModel,
    params: Params,
    batches: Iterable[Batch],
    schedule: str,
    times: str,
    num_draws: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
    density: TimeDensity | None = None,
) -> Scatter:
    """Measure the variance of the continuous-time estimate over times and noise, given each image.

    Args:
      model, params: a trained model; pass the EMA parameters.
      batches: every image once, padding masked. For stratified times a batch is one unit, and
        batches with fewer images than the first are left out: fewer strata have another variance.
      schedule: a key of SCHEDULES.
      times: a key of TIMES.
      num_draws: R, draws of (t, eps) per image, at least 2.
      seed: random seed of times and noise; measurements with the same seed share them.
      progress: called after every batch.
      density: p(t) from which times are drawn, with importance weights 1/p; None = uniform.

    Raises:
      ConfigError: the schedule has one gamma per pixel or per image; its interior then changes the
        bound itself, not only the variance of an estimate.
    """
    require_scalar("variance of the bound", model, "compare the bounds themselves")

    @jax.jit
    def draw(params, batch, key):
        key_times, key_eps, key_eps_0 = jax.random.split(key, 3)
        noise = Noise(
            TIMES[times](key_times, len(batch.index)),
            jax.random.normal(key_eps, batch.images.shape),
            jax.random.normal(key_eps_0, batch.images.shape),
        )
        if density is not None:
            drawn = draw_times(density, model.schedule, params["schedule"], noise.times)
            noise = dataclasses.replace(noise, times=drawn[0], importance=drawn[1])
        at_times = SCHEDULES[schedule](model, params, noise.times)
        terms = terms_at(model, params, batch, noise, at_times)
        return bits_per_dim(terms.total, math.prod(model.shape))

    values, means, size = [], [], 0
    for number, padded in enumerate(batches):
        # Padding would take strata away from the images, which would then not be evenly spread.
        batch = _without_padding(padded)
        size = size or len(batch.index)
        if times == "stratified" and len(batch.index) < size:
            progress()
            continue
        key = jax.random.fold_in(stream_key(seed, "evaluation"), number)
        keys = jax.random.split(key, num_draws)
        estimates = np.stack([np.float64(draw(params, batch, k)) for k in keys])
        # Times of one batch are dependent: its mean is the unit, and B times its variance is what
        # one image would have if the draws of a batch were independent.
        if times == "stratified":
            estimates = estimates.mean(axis=1, keepdims=True)
        images_per_unit = size if times == "stratified" else 1
        means.append(estimates.mean(axis=0))
        values.append(images_per_unit * estimates.var(axis=0, ddof=1))
        progress()
    return Scatter(np.concatenate(values), np.concatenate(means))


def _without_padding(batch: Batch) -> Batch:
    """Return the batch of the images that are not padding."""
    mask = np.asarray(batch.mask)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[mask], batch)


def mean_interval(variances: Scatter) -> Interval:
    """Return the mean variance in (bits/dim)^2, with its Student's t interval over units."""
    error = variances.values.std(ddof=1) / math.sqrt(len(variances.values))
    mean = float(variances.values.mean())
    return Interval(mean, *t_interval(mean, error, len(variances.values) - 1))


def ratio(one: Scatter, other: Scatter) -> Interval:
    """Return mean variance of `other` / mean variance of `one`: the gain of `one` over `other`.

    The interval is a jackknife of the logarithm over pairs of equal units; both need the same units.
    """
    return log_jackknife(
        lambda keep: math.log(other.values[keep].mean() / one.values[keep].mean()), len(one.values)
    )


def gradient_signal(
    gradient_fn: GradientFn,
    params: Params,
    batches: Iterable[tuple[Batch, Noise]],
    key: jax.Array,
) -> dict[str, Interval]:
    """Return the signal-to-noise ratio |E g|^2 / tr Cov(g) of a training step's gradient g.

    Over batches and noise. Both parts are unbiased: |E g|^2 is estimated by the mean inner product of
    two different gradients. Where noise hides it that estimate may be negative; it is then set to 0.

    Args:
      gradient_fn: the gradient of a training step, see `vdm.models.vdm.objective`.
      params: where the gradient is taken.
      batches: M independent pairs of a batch and its times and noise.
      key: for dropout; the same for all M gradients.

    Returns:
      {parameter group: ratio, with its jackknife interval over the M gradients}.
    """
    compiled = jax.jit(lambda p, b, n: gradient_fn(p, b, n, key)[0])
    gradients: dict[str, list[np.ndarray]] = {}
    for batch, noise in batches:
        for group, gradient in _by_group(compiled(params, batch, noise)).items():
            gradients.setdefault(group, []).append(gradient)
    return {group: _signal(np.stack(rows)) for group, rows in gradients.items()}


def _by_group(grads: Params) -> Mapping[str, np.ndarray]:
    """Return {parameter group: its gradients as one vector}."""
    groups: dict[str, list[np.ndarray]] = {}
    labels = jax.tree.leaves(group_labels(grads))
    for label, leaf in zip(labels, jax.tree.leaves(grads), strict=True):
        groups.setdefault(label, []).append(np.asarray(leaf).reshape(-1))
    return {label: np.concatenate(values) for label, values in groups.items()}


def _signal(gradients: np.ndarray) -> Interval:
    """Return |E g|^2 / tr Cov(g) of gradients [M, P], with its jackknife interval."""
    # All that is needed are the inner products g_m . g_n [M, M], so that leaving a gradient out costs
    # no pass over its P numbers.
    products = np.asarray(gradients @ gradients.T, np.float64)

    def statistic(keep):
        kept_products = products[np.ix_(keep, keep)]
        size, squared_norms = len(kept_products), np.trace(kept_products)
        signal = (kept_products.sum() - squared_norms) / (size * (size - 1))
        return max(float(signal), 0.0) / (squared_norms / size - signal)

    interval = jackknife(statistic, len(gradients))
    return dataclasses.replace(interval, low=max(interval.low, 0.0))
