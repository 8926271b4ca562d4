"""The mean in bits/dim of values per randomisation and image, with its standard errors and intervals.

A value is y_ri = m_i + e_ri: the exact bound m_i of image i, and the Monte Carlo error of randomisation
r. Images are independent, and so are randomisations. The errors of different images in *one*
randomisation are dependent: their times are spread evenly, so that the errors nearly cancel in the
mean. With R randomisations of N images, hence

    Var(mean) = Var_i(m_i)/N + Var(mean_i e_i)/R
    Var_i(m_i)      estimated by  Var_i(mean_r y_ri) - mean_i Var_r(y_ri)/R
    Var(mean_i e_i) estimated by  Var_r(mean_i y_ri)

The scatter of mean_r y_ri over images alone would treat the e_ri as independent. With R = 1 nothing
else can be computed, and for a digits model that error is three times too large.

Most of e is one function of time that all images share: y_ri = m_i + f(t_ri) - E f + rest. Where f is
given (`shared_in_time`), it is subtracted before Var_i(m_i) is estimated. The expectation stays the
same, but the estimate of Var_i(m_i) is no longer a small difference of two large scatters, which can
make the interval several times too wide.

Three intervals answer three questions. `Estimate.interval` covers the mean over the population that the
images were drawn from, `Estimate.given_images` the exact mean over these images, and the intervals of
`vdm.evaluation.statistics.between_seeds` the mean over training runs, or the value of the next run.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from vdm.types import bits_per_dim

CONFIDENCE = 0.95
"""Coverage of every interval in this folder."""
_NUM_NODES = 16
"""Nodes of the piecewise linear f(t) that `shared_in_time` fits."""
_VALUES_PER_NODE = 20
"""Values needed per node; with fewer the fit would follow the noise."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over images in bits/dim, with its errors.

    Attributes:
      mean: over images and randomisations.
      standard_error: error of the mean as an estimate of the population's mean; it contains the Monte
        Carlo error. From one randomisation it is too large rather than too small. None for one image.
      monte_carlo_error: standard error of the mean as an estimate of the exact mean over these
        images; None below two randomisations.
      interval: 95 % for the population's mean, by Student's t; None for one image.
      given_images: 95 % for the exact mean over these images, by Student's t with R - 1 degrees of
        freedom; None below two randomisations.
      degrees_of_freedom: those of the standard error; None for one image.
    """

    mean: float
    standard_error: float | None
    monte_carlo_error: float | None
    interval: tuple[float, float] | None
    given_images: tuple[float, float] | None = None
    degrees_of_freedom: float | None = None


def estimate(nats: np.ndarray, num_dims: int, shared: np.ndarray | None = None) -> Estimate:
    """Return the mean over randomisations and images in bits/dim, with its errors.

    Args:
      nats: values of R randomisations and N images, each averaged over its repeats [R, N].
      num_dims: D, dimensions per image; bits/dim = nats / (D ln 2).
      shared: the part of each value that is a function of its times alone [R, N], nats, from
        `shared_in_time`; None = none is subtracted.
    """
    values = bits_per_dim(np.asarray(nats, np.float64), num_dims)
    mean = float(values.mean())
    variance = variances(values, None if shared is None else bits_per_dim(shared, num_dims))
    error = interval = monte_carlo_error = given_images = None

    # One image says nothing of the population, one randomisation nothing of the Monte Carlo error:
    # each error is left None rather than given a number that cannot be trusted.
    if variance.images is not None:
        error = math.sqrt(variance.images + (variance.monte_carlo or 0.0))
        interval = t_interval(mean, error, variance.freedom)
    if variance.monte_carlo is not None:
        monte_carlo_error = math.sqrt(variance.monte_carlo)
        given_images = t_interval(mean, monte_carlo_error, len(values) - 1)
    freedom = variance.freedom if variance.images is not None else None
    return Estimate(mean, error, monte_carlo_error, interval, given_images, freedom)


class Variances(NamedTuple):
    """The two parts of the variance of a mean over randomisations and images, in squared values.

    Attributes:
      images: Var_i(m_i)/N, due to the choice of images; None for one image. From one randomisation it
        contains the Monte Carlo part too.
      monte_carlo: Var(mean_i e_i)/R, due to times and noise; None for one randomisation.
      freedom: degrees of freedom of their sum (Satterthwaite 1946).
    """

    images: float | None
    monte_carlo: float | None
    freedom: float


def variances(values: np.ndarray, shared: np.ndarray | None = None) -> Variances:
    """Return the parts of the variance of the mean of `values` [R, N], by the module's estimators.

    Args:
      values: numbers of R randomisations and N images, in any unit.
      shared: the part of each value that is a function of its times alone [R, N], in the same unit.
    """
    num_randomisations, num_images = values.shape
    monte_carlo = _variance_of_mean(values.mean(axis=1)) if num_randomisations > 1 else None
    if num_images == 1:
        return Variances(None, monte_carlo, num_randomisations - 1)
    if monte_carlo is None:
        return Variances(_variance_of_mean(values[0]), None, num_images - 1)

    # Subtracted for the variance over images only: the Monte Carlo part above has to contain the
    # scatter of `shared` between randomisations.
    values = values if shared is None else values - shared
    between = _variance_of_mean(values.mean(axis=0))
    within = float(values.var(axis=0, ddof=1).mean()) / (num_randomisations * num_images)
    images = max(between - within, 0.0)

    # Satterthwaite: the degrees of freedom of a sum of mean squares, weighted by their squares.
    squares_per_freedom = (
        between**2 / (num_images - 1)
        + within**2 / (num_images * (num_randomisations - 1))
        + monte_carlo**2 / (num_randomisations - 1)
    )
    if squares_per_freedom > 0:
        freedom = max((images + monte_carlo) ** 2 / squares_per_freedom, 1.0)
    else:
        freedom = num_images - 1
    return Variances(images, monte_carlo, freedom)


def t_interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """Return the 95 % interval mean +- t error, Student's t with `freedom` degrees of freedom.

    scipy's intervals belong to its tests, which take the degrees of freedom from the number of values;
    here they come from Satterthwaite's formula, or from the units of a jackknife.
    """
    # scipy.special, not scipy.stats: importing the latter takes a third of a launcher's start.
    half_width = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    return (mean - half_width, mean + half_width)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979), in the order given.

    Rejecting all that are below .05 makes any false rejection at most 5 % likely.
    """
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted.tolist()


def shared_in_time(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the part of `values` that a common function of time explains [R, N].

    f is piecewise linear with equally spaced nodes on [0, 1], fitted by least squares to
    values = mean over repeats of f(times). With too few values it is their mean.

    Args:
      values: averages over repeats [R, N].
      times: the uniform times behind them [repeats, R, N], in [0, 1).
    """
    num_nodes = min(_NUM_NODES, values.size // _VALUES_PER_NODE)
    if num_nodes < 2:
        return np.full(values.shape, values.mean())

    # The design matrix: each time lies between two nodes, weighted by its distance to the other.
    design = np.zeros((values.size, num_nodes))
    rows = np.arange(values.size)
    for repeat in times.reshape(len(times), -1).astype(np.float64):
        left = np.minimum((repeat * (num_nodes - 1)).astype(int), num_nodes - 2)
        fraction = repeat * (num_nodes - 1) - left
        design[rows, left] += (1.0 - fraction) / len(times)
        design[rows, left + 1] += fraction / len(times)

    # The normal equations are 16 x 16; lstsq, because a node that no time reaches makes them singular.
    heights = np.linalg.lstsq(design.T @ design, design.T @ values.ravel(), rcond=None)[0]
    return (design @ heights).reshape(values.shape)


def _variance_of_mean(values: np.ndarray) -> float:
    """Return the variance of the mean of independent values [n]."""
    return float(np.var(values, ddof=1)) / len(values)
