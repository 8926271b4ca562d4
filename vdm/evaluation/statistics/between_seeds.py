"""Several training seeds: what another seed would give. A third thing beside images and Monte Carlo.

All seeds are evaluated on one set of images, so the scatter between seeds does not hold the error over
images; nor does an interval over images hold the scatter between seeds.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from vdm.evaluation.statistics.estimate import CONFIDENCE, t_interval


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
    """Mean and intervals of one number per training seed, at least two, in its own unit.

    scipy has no interval for the next value, so both come from `t_interval`.
    """
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
    """`one` - `other`, each {seed: number} of at least two seeds, by scipy's paired or Welch's test."""
    if paired := one.keys() == other.keys():
        groups = [np.array([values[seed] for seed in one]) for values in (one, other)]
        scatter, mean = [groups[0] - groups[1]], float((groups[0] - groups[1]).mean())
    else:
        groups = scatter = [np.array(list(values.values())) for values in (one, other)]
        mean = float(groups[0].mean() - groups[1].mean())
    if all(np.ptp(values) == 0 for values in scatter):
        return SeedGap(mean, (mean, mean), None, paired)
    with warnings.catch_warnings():
        # Seeds may differ by rounding alone: a tiny interval then is the answer.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_rel(*groups) if paired else stats.ttest_ind(*groups, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return SeedGap(mean, (float(low), float(high)), float(test.pvalue), paired)
