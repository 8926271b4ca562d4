"""How much the bound's estimate scatters over times and noise, and a gradient over them and images.

Given an image, one (t, eps) gives bits/dim L. Over R draws in a row,

    iid          Var(L | x), with t uniform and independent                  (Kingma 2021, sec. 5.3)
    stratified   B Var(mean of L over a batch | its images), with t in B strata, as in training

both in (bits/dim)^2 per image, averaged over images. The second holds only what differs within a
stratum: mostly eps, little of t. A shape moves nothing but the first part, so it gains less there.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vdm.evaluation.bounds.base import require_scalar
from vdm.evaluation.statistics.estimate import t_interval
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
"""How times are drawn: (key, batch size) -> uniform in [0, 1) [B]."""


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Variances in (bits/dim)^2, one per independent unit: an image (iid), or a batch (stratified).

    Attributes:
      values: unbiased for each unit [N].
      means: each unit's mean bits/dim [N].
    """

    values: np.ndarray
    means: np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, from the jackknife over units."""

    value: float
    low: float
    high: float


def straight(model: DiffusionModel, params: Params, times) -> NoiseLevels:
    """The noise levels of the log-SNR line between the same end points, for the same denoiser."""
    gamma_0, gamma_1 = model.end_gammas(params)
    share = per_example(times)
    slope = jnp.broadcast_to(gamma_1 - gamma_0, share.shape)
    return NoiseLevels(gamma_0, gamma_1, (1.0 - share) * gamma_0 + share * gamma_1, 0.5 * slope)


def own(model: DiffusionModel, params: Params, times) -> NoiseLevels:
    """The noise levels of the model's own schedule in continuous time."""
    return noise_levels(model, params, times, 0)


SHAPES: dict[str, Callable[[DiffusionModel, Params, jax.Array], NoiseLevels]] = {
    "own": own,
    "straight": straight,
}
"""The schedules that one denoiser is measured under."""


def scatter(
    model: DiffusionModel,
    params: Params,
    batches: Iterable[Batch],
    shape: str,
    times: str,
    num_draws: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
    density: TimeDensity | None = None,
) -> Scatter:
    """The variance of the continuous-time estimate over times and noise, given each image.

    Args:
      model, params: a trained model; pass the EMA parameters.
      batches: every image once, padding masked. A batch is one unit of "stratified"; those with
        fewer images than the first are left out there, as fewer strata are another variance.
      shape, times: names in SHAPES and TIMES.
      num_draws: R, at least 2.
      seed: of times and noise, which two schedules therefore share.
      progress: called after every batch.
      density: what times are drawn from, with weights 1/p; None = uniform.

    Raises:
      ConfigError: one gamma per pixel or per image, where a shape changes the bound itself.
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
        terms = terms_at(model, params, batch, noise, SHAPES[shape](model, params, noise.times))
        return bits_per_dim(terms.total, math.prod(model.shape))

    values, means, size = [], [], 0
    for number, padded in enumerate(batches):
        # Padding would take strata of its own, and leave the images a random part of them.
        batch = _without_padding(padded)
        size = size or len(batch.index)
        if times == "stratified" and len(batch.index) < size:
            progress()
            continue
        key = jax.random.fold_in(stream_key(seed, "evaluation"), number)
        keys = jax.random.split(key, num_draws)
        rows = np.stack([np.float64(draw(params, batch, k)) for k in keys])
        if times == "stratified":
            rows = rows.mean(axis=1, keepdims=True)
        per_image = size if times == "stratified" else 1
        means.append(rows.mean(axis=0))
        values.append(per_image * rows.var(axis=0, ddof=1))
        progress()
    return Scatter(np.concatenate(values), np.concatenate(means))


def _without_padding(batch: Batch) -> Batch:
    mask = np.asarray(batch.mask)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[mask], batch)


def mean_interval(found: Scatter) -> Interval:
    """The mean variance, with an interval over units."""
    error = found.values.std(ddof=1) / math.sqrt(len(found.values))
    mean = float(found.values.mean())
    return Interval(mean, *t_interval(mean, error, len(found.values) - 1))


def ratio(one: Scatter, other: Scatter) -> Interval:
    """mean variance of `other` over that of `one`: how many times smaller the first is.

    The interval is a jackknife of the logarithm, by pairs of equal units.
    """
    return log_jackknife(
        lambda keep: math.log(other.values[keep].mean() / one.values[keep].mean()), len(one.values)
    )


def log_jackknife(statistic: Callable[[np.ndarray], float], size: int) -> Interval:
    """exp of a statistic of the units kept [size], with its 95 % jackknife interval."""
    everyone = np.ones(size, bool)
    value = statistic(everyone)
    left = []
    for unit in range(size):
        keep = everyone.copy()
        keep[unit] = False
        left.append(statistic(keep))
    error = math.sqrt((size - 1) / size * float(np.sum(np.square(np.array(left) - np.mean(left)))))
    low, high = t_interval(value, error, size - 1)
    return Interval(math.exp(value), math.exp(low), math.exp(high))


def gradient_signal(
    gradient_fn: GradientFn,
    params: Params,
    batches: Iterable[tuple[Batch, Noise]],
    key: jax.Array,
) -> dict[str, Interval]:
    """|E g|^2 / tr Cov(g) of one step's gradient g, by parameter group, over batches and noise.

    From M independent gradients, with both parts unbiased: the squared mean is the mean product of two
    different gradients. Where noise hides it the estimate may be negative; it is then 0.
    """
    compiled = jax.jit(lambda p, b, n: gradient_fn(p, b, n, key)[0])
    rows: dict[str, list[np.ndarray]] = {}
    for batch, noise in batches:
        for name, values in _by_group(compiled(params, batch, noise)).items():
            rows.setdefault(name, []).append(values)
    return {name: _signal(np.stack(values)) for name, values in rows.items()}


def _by_group(grads: Params) -> Mapping[str, np.ndarray]:
    groups: dict[str, list[np.ndarray]] = {}
    labels = jax.tree.leaves(group_labels(grads))
    for label, leaf in zip(labels, jax.tree.leaves(grads), strict=True):
        groups.setdefault(label, []).append(np.asarray(leaf).reshape(-1))
    return {label: np.concatenate(values) for label, values in groups.items()}


def _signal(rows: np.ndarray) -> Interval:
    products = np.asarray(rows @ rows.T, np.float64)

    def statistic(keep):
        kept = products[np.ix_(keep, keep)]
        size, own = len(kept), np.trace(kept)
        signal = (kept.sum() - own) / (size * (size - 1))
        return max(float(signal), 0.0) / (own / size - signal)

    everyone = np.ones(len(rows), bool)
    value = statistic(everyone)
    left = np.array([statistic(np.arange(len(rows)) != unit) for unit in range(len(rows))])
    spread = float(np.sum(np.square(left - left.mean())))
    error = math.sqrt((len(rows) - 1) / len(rows) * spread)
    low, high = t_interval(value, error, len(rows) - 1)
    return Interval(value, max(low, 0.0), high)
