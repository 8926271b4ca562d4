"""Bootstrap intervals from images drawn with replacement, a check of the t intervals of `estimate.py`.

There are too few randomisations to resample (8 by default), so the Monte Carlo part of the error is
drawn from Student's t with the Monte Carlo standard error. The deviations of images are scaled to the
variance that images alone explain (`estimate.variances`); unscaled they also contain the noise of
each image's times, which would then count twice.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

from vdm.evaluation.statistics.estimate import CONFIDENCE, variances
from vdm.types import bits_per_dim

NUM_DRAWS = 4000
"""Resamplings per interval: the 2.5 % percentile then rests on 100 draws."""
_CHUNK = 100
"""Resamplings drawn at once; a chunk of an [N] mean takes 100 N numbers of memory."""


def bootstrap_interval(
    nats: np.ndarray, num_dims: int, shared: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the population's mean in bits/dim; None for one image.

    Args:
      nats: values [R, N] of R randomisations and N images; in a paired comparison the differences.
      num_dims: D, dimensions per image.
      shared: the part of each value that is a function of its times alone [R, N], nats, as in
        `vdm.evaluation.statistics.estimate.estimate`; None = none.
      seed: random seed of the resampling.
    """
    values = bits_per_dim(np.asarray(nats, np.float64), num_dims)
    shared = np.zeros_like(values) if shared is None else bits_per_dim(shared, num_dims)
    variance, rng = variances(values, shared), np.random.default_rng(seed)
    if variance.images is None:
        return None

    # Less what all images share at their times, as `variances` does: the scatter left is smaller.
    deviations = (values - shared if len(values) > 1 else values).mean(axis=0)
    deviations = deviations - deviations.mean()
    spread = math.sqrt(float(np.mean(deviations**2)) / len(deviations))
    scale = math.sqrt(variance.images) / spread if spread > 0 else 0.0

    # In chunks, because all indices at once would be NUM_DRAWS N integers.
    count = len(deviations)
    draws = np.concatenate(
        [
            deviations[rng.integers(0, count, (_CHUNK, count))].mean(axis=1)
            for _ in range(NUM_DRAWS // _CHUNK)
        ]
    )
    draws = draws * scale

    # The two sources of error are independent, so that their draws add.
    if variance.monte_carlo is not None:
        noise = stats.t.rvs(len(values) - 1, size=NUM_DRAWS, random_state=rng)
        draws = draws + math.sqrt(variance.monte_carlo) * noise
    low, high = np.quantile(draws, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    mean = float(values.mean())
    return mean + float(low), mean + float(high)


def simultaneous_factor(values: np.ndarray, seed: int = 0) -> float:
    """Return the half-width, in standard errors, of intervals that hold for K means at once (95 %).

    The 95 % quantile over resamplings of max_k |mean*_k - mean_k| / standard error_k. Columns without
    scatter are left out; the result is at least 1.96, the factor of a single mean.

    Args:
      values: one row per image [N, K].
      seed: random seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    deviations = values - values.mean(axis=0)
    error = np.sqrt(np.mean(deviations**2, axis=0) / len(values))
    standardised = deviations[:, error > 0] / error[error > 0]
    single = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    if not standardised.shape[1]:
        return single
    # A quarter of the draws: each covers K columns, and the quantile sought is less extreme.
    largest = [np.abs(m).max(axis=1) for m in _resampled_means(standardised, NUM_DRAWS // 4, rng)]
    return max(single, float(np.quantile(np.concatenate(largest), CONFIDENCE)))


def _resampled_means(
    values: np.ndarray, num: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield means [_CHUNK, K] over N rows of [N, K] drawn with replacement, `num` rows in all."""
    count = len(values)
    for _ in range(0, num, _CHUNK):
        # As a matrix product with counts: gathering rows would take _CHUNK N K numbers.
        drawn = rng.integers(0, count, (_CHUNK, count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn])
        yield weights @ values / count
