"""The mean over training runs that differ in their seed, and the prediction for one more seed.

A third source of error, beside images and Monte Carlo (`vdm.evaluation.statistics.estimate`). All seeds
are evaluated on one set of images, so the scatter between seeds does not contain the error over images;
nor does an interval over images contain the scatter between seeds.
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
    """One number, such as bits/dim, from several training seeds.

    Attributes:
      mean: over the n seeds.
      deviation: sample standard deviation s between seeds.
      interval: 95 % for the mean over all possible seeds: mean +- t s/sqrt(n), Student's t.
      next_seed: 95 % prediction interval for the number of one more seed: mean +- t s sqrt(1 + 1/n).
      num_seeds: n.
    """

    mean: float
    deviation: float
    interval: tuple[float, float]
    next_seed: tuple[float, float]
    num_seeds: int


def between_seeds(values: Sequence[float]) -> BetweenSeeds:
    """Return mean and intervals of one number per training seed, in the number's unit.

    Raises:
      ValueError: fewer than two seeds.
    """
    if len(values) < 2:
        raise ValueError(
            f"values: {len(values)} given; the scatter between seeds needs one number of each of at "
            "least two"
        )
    count, mean = len(values), float(np.mean(values))
    deviation = float(np.std(values, ddof=1))
    # scipy has no prediction interval for the next value, so both come from `t_interval`.
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
    """Return (mean, its 95 % interval by Student's t) over seeds.

    Without values both are None; the interval of a single value is None.
    """
    if len(values) < 2:
        return (float(values[0]) if values else None), None
    summary = between_seeds(values)
    return summary.mean, summary.interval


@dataclasses.dataclass(frozen=True)
class SeedGap:
    """The difference of two groups of training seeds, by Student's t over seeds.

    Attributes:
      mean: mean of the first group minus that of the second.
      interval: 95 % for the difference between the means over all possible seeds.
      p_value: two-sided, of the hypothesis of no difference; None where all seeds of a
        group give one number, so that there is no scatter to test against.
      paired: true if both groups have the same seeds, and differences were taken seed by seed; else
        the groups are treated as independent (Welch's test).
    """

    mean: float
    interval: tuple[float, float]
    p_value: float | None
    paired: bool


def seed_gap(one: Mapping[int, float], other: Mapping[int, float]) -> SeedGap:
    """Return `one` - `other` over seeds, by scipy's paired t test or Welch's.

    Args:
      one, other: {training seed: number}, at least two seeds each; the same seeds are paired.
    """
    if paired := one.keys() == other.keys():
        groups = [np.array([values[seed] for seed in one]) for values in (one, other)]
        scatter, mean = [groups[0] - groups[1]], float((groups[0] - groups[1]).mean())
    else:
        groups = scatter = [np.array(list(values.values())) for values in (one, other)]
        mean = float(groups[0].mean() - groups[1].mean())
    # Without scatter scipy divides 0 by 0.
    if all(np.ptp(values) == 0 for values in scatter):
        return SeedGap(mean, (mean, mean), None, paired)
    with warnings.catch_warnings():
        # scipy warns when values differ by rounding alone, where a tiny interval is the right answer.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_rel(*groups) if paired else stats.ttest_ind(*groups, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return SeedGap(mean, (float(low), float(high)), float(test.pvalue), paired)
