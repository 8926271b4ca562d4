"""Jackknife intervals: the error of a statistic from its values with one unit left out.

With theta the statistic of all n independent units and theta_(i) that without unit i,

    standard error^2 = (n - 1)/n sum_i (theta_(i) - mean theta_(.))^2                (Efron 1979)

and the 95 % interval is theta +- t standard errors, Student's t with n - 1 degrees of freedom. It
serves smooth statistics such as ratios of means, for which no closed form of the error is at hand.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from vdm.evaluation.statistics.estimate import t_interval

Statistic = Callable[[np.ndarray], float]
"""(which units are kept, booleans [n]) -> the statistic of these units."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, in the number's unit."""

    value: float
    low: float
    high: float


def jackknife(statistic: Statistic, size: int) -> Interval:
    """Return a statistic of all `size` units with its 95 % jackknife interval."""
    every_unit = np.ones(size, bool)
    value = statistic(every_unit)

    without_one = np.array([statistic(np.arange(size) != unit) for unit in range(size)])
    squares = float(np.sum(np.square(without_one - np.mean(without_one))))
    error = math.sqrt((size - 1) / size * squares)
    return Interval(value, *t_interval(value, error, size - 1))


def log_jackknife(log_statistic: Statistic, size: int) -> Interval:
    """Return exp(log_statistic) of all units with the exponential of its jackknife interval.

    For positive statistics such as ratios of variances: their logarithm is nearer to normal, and
    the interval cannot contain 0.
    """
    log_interval = jackknife(log_statistic, size)
    return Interval(*map(math.exp, dataclasses.astuple(log_interval)))
