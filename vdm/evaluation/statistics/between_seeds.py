"""Several training seeds: what another seed would give. A third thing beside images and Monte Carlo.

All seeds are evaluated on one set of images, so the scatter between seeds does not hold the error over
images; nor does an interval over images hold the scatter between seeds.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from vdm.evaluation.statistics.estimate import t_interval


@dataclasses.dataclass(frozen=True)
class BetweenSeeds:
    """One number from several training seeds.

    Attributes:
      mean: over seeds.
      deviation: between seeds; the errors over images are not in it, for all seeds have one set of
        images.
      interval: 95 % for the mean over all seeds, Student's t.
      next_seed: 95 % for the number of one more seed: mean +- t s sqrt(1 + 1/n).
      num_seeds: n.
    """

    mean: float
    deviation: float
    interval: tuple[float, float]
    next_seed: tuple[float, float]
    num_seeds: int


def between_seeds(values: Sequence[float]) -> BetweenSeeds:
    """Mean and intervals of one number per training seed, at least two, in its own unit."""
    if len(values) < 2:
        raise ValueError(f"{len(values)} seed: the scatter between seeds needs at least two")
    count, mean = len(values), float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    return BetweenSeeds(
        mean,
        deviation,
        t_interval(mean, deviation / math.sqrt(count), count - 1),
        t_interval(mean, deviation * math.sqrt(1.0 + 1.0 / count), count - 1),
        count,
    )


def mean_and_interval(
    values: Sequence[float],
) -> tuple[float | None, tuple[float, float] | None]:
    """(mean, its 95 % interval by Student's t), None where there are too few."""
    if len(values) < 2:
        return (float(values[0]) if values else None), None
    found = between_seeds(values)
    return found.mean, found.interval


@dataclasses.dataclass(frozen=True)
class SeedGap:
    """One group of seeds minus another, Student's t over seeds.

    Attributes:
      mean: of the difference.
      interval: 95 % for the difference between the means over all seeds.
      p_value: of no difference, two-sided; None where nothing scatters.
      paired: whether both groups have the same seeds, and differences were taken seed by seed; else
        the groups count as independent (Welch).
    """

    mean: float
    interval: tuple[float, float]
    p_value: float | None
    paired: bool


def seed_gap(one: Mapping[int, float], other: Mapping[int, float]) -> SeedGap:
    """`one` - `other`, each {seed: number} of at least two seeds."""
    if one.keys() == other.keys():
        gaps = np.array([one[seed] - other[seed] for seed in one])
        mean, freedom = float(gaps.mean()), float(len(gaps) - 1)
        error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    else:
        groups = [np.array(list(values.values())) for values in (one, other)]
        mean = float(groups[0].mean() - groups[1].mean())
        parts = [float(g.var(ddof=1)) / len(g) for g in groups]
        error, freedom = math.sqrt(sum(parts)), _welch(parts, [len(g) for g in groups])
    p_value = 2.0 * float(stats.t.sf(abs(mean) / error, freedom)) if error > 0 else None
    return SeedGap(mean, t_interval(mean, error, freedom), p_value, one.keys() == other.keys())


def _welch(parts: Sequence[float], counts: Sequence[int]) -> float:
    """Degrees of freedom of a sum of two variances of means."""
    spread = sum(v**2 / (n - 1) for v, n in zip(parts, counts, strict=True))
    return sum(parts) ** 2 / spread if spread > 0 else float(sum(counts) - 2)
