"""Intervals by resampling images: a second route to those of `estimate.py`, which assume a t law.

Images are drawn with replacement. Of randomisations there are too few to resample; their mean is drawn
from Student's t with the Monte Carlo error. Deviations of images are shrunk to the variance that
images alone explain, or the noise of their times would count twice.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

from vdm.evaluation.statistics.estimate import CONFIDENCE, variances
from vdm.types import bits_per_dim

NUM_DRAWS = 4000
_CHUNK = 100


def bootstrap_interval(
    nats: np.ndarray, num_dims: int, shared: np.ndarray | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """95 % for the population's mean of [R, N] values, bits/dim, by percentiles; None for one image.

    Args:
      nats, num_dims, shared: as in `vdm.evaluation.statistics.estimate.estimate`. For a paired
        comparison, the differences.
      seed: of the resampling.
    """
    values = bits_per_dim(np.asarray(nats, np.float64), num_dims)
    shared = np.zeros_like(values) if shared is None else bits_per_dim(shared, num_dims)
    found, rng = variances(values, shared), np.random.default_rng(seed)
    if found.images is None:
        return None
    deviations = (values - shared if len(values) > 1 else values).mean(axis=0)
    deviations = deviations - deviations.mean()
    spread = math.sqrt(float(np.mean(deviations**2)) / len(deviations))
    scale = math.sqrt(found.images) / spread if spread > 0 else 0.0
    count = len(deviations)
    draws = np.concatenate(
        [
            deviations[rng.integers(0, count, (_CHUNK, count))].mean(axis=1)
            for _ in range(NUM_DRAWS // _CHUNK)
        ]
    )
    draws = draws * scale
    if found.monte_carlo is not None:
        noise = stats.t.rvs(len(values) - 1, size=NUM_DRAWS, random_state=rng)
        draws = draws + math.sqrt(found.monte_carlo) * noise
    low, high = np.quantile(draws, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    mean = float(values.mean())
    return mean + float(low), mean + float(high)


def simultaneous_factor(values: np.ndarray, seed: int = 0) -> float:
    """How many standard errors hold all K means of [N, K] at once in 95 % of resamplings.

    Columns without scatter count as held. At least 1.96, that of a single mean.
    """
    rng = np.random.default_rng(seed)
    deviations = values - values.mean(axis=0)
    error = np.sqrt(np.mean(deviations**2, axis=0) / len(values))
    kept = deviations[:, error > 0] / error[error > 0]
    single = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    if not kept.shape[1]:
        return single
    largest = [np.abs(m).max(axis=1) for m in _resampled_means(kept, NUM_DRAWS // 4, rng)]
    return max(single, float(np.quantile(np.concatenate(largest), CONFIDENCE)))


def _resampled_means(
    values: np.ndarray, num: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """`num` means [chunk, K] over N rows of [N, K] drawn with replacement, some at a time."""
    count = len(values)
    for _ in range(0, num, _CHUNK):
        drawn = rng.integers(0, count, (_CHUNK, count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn])
        yield weights @ values / count
