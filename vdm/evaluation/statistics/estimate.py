"""Values per randomisation and image -> their mean in bits/dim, and how sure it is.

A value is y_ri = m_i + e_ri: what image i costs, and the Monte Carlo error of randomisation r. Images
are independent, and so are randomisations. The errors of different images in *one* randomisation are
not: their times are spread evenly, so that the errors nearly cancel in the mean. Hence

    Var(mean) = Var_i(m_i)/N + Var(mean_i e_i)/R
    Var_i(m_i)      estimated by  Var_i(mean_r y_ri) - mean_i Var_r(y_ri)/R
    Var(mean_i e_i) estimated by  Var_r(mean_i y_ri)

The scatter of mean_r y_ri over images alone would count e as if it were independent: three times the
error for a digits model at R = 1, which is all that a single randomisation allows.

Most of e is one function of time that all images share: y_ri = m_i + f(t_ri) - E f + rest. Where f is
given (`shared_in_time`), it is taken away before Var_i(m_i) is estimated. That changes nothing in
expectation; without it a difference of two large scatters hides the small one sought, and the interval
can be several times too wide.

Three intervals answer three questions: `Estimate.interval` holds the mean over all images of the kind,
`Estimate.given_images` the exact mean over these images, and those of
`vdm.evaluation.statistics.between_seeds` the mean over training runs, or the next run.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from vdm.types import bits_per_dim

CONFIDENCE = 0.95
_NUM_NODES = 16
_VALUES_PER_NODE = 20


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over images in bits/dim; None where an error is not estimated.

    Attributes:
      mean: over images and randomisations.
      standard_error: of the mean as an estimate of the population's; it contains the Monte Carlo
        error. From one randomisation it is too large rather than too small.
      monte_carlo_error: of the mean as an estimate of these images' exact mean; None below two
        randomisations.
      interval: 95 % for the population's mean, by Student's t.
      given_images: 95 % for these images' exact mean, by Student's t over randomisations.
      degrees_of_freedom: of the standard error.
    """

    mean: float
    standard_error: float | None
    monte_carlo_error: float | None
    interval: tuple[float, float] | None
    given_images: tuple[float, float] | None = None
    degrees_of_freedom: float | None = None


def estimate(nats: np.ndarray, num_dims: int, shared: np.ndarray | None = None) -> Estimate:
    """The mean over randomisations and images, with its errors.

    Args:
      nats: [R, N], averaged over repeats.
      num_dims: D.
      shared: [R, N] nats, the part of each value that is a function of its times alone.
    """
    values = bits_per_dim(np.asarray(nats, np.float64), num_dims)
    mean = float(values.mean())
    found = variances(values, None if shared is None else bits_per_dim(shared, num_dims))
    error = interval = noise = given_images = None
    if found.images is not None:
        error = math.sqrt(found.images + (found.monte_carlo or 0.0))
        interval = t_interval(mean, error, found.freedom)
    if found.monte_carlo is not None:
        noise = math.sqrt(found.monte_carlo)
        given_images = t_interval(mean, noise, len(values) - 1)
    freedom = found.freedom if found.images is not None else None
    return Estimate(mean, error, noise, interval, given_images, freedom)


class Variances(NamedTuple):
    """Of a mean over images and randomisations.

    Attributes:
      images: what it owes to the choice of images; None for one image. From one randomisation it
        holds the Monte Carlo part too.
      monte_carlo: what it owes to times and noise; None for one randomisation.
      freedom: degrees of freedom of their sum, by Satterthwaite.
    """

    images: float | None
    monte_carlo: float | None
    freedom: float


def variances(values: np.ndarray, shared: np.ndarray | None = None) -> Variances:
    """The parts of the variance of the mean of `values` [R, N], see the module."""
    num_randomisations, num_images = values.shape
    monte_carlo = _variance_of_mean(values.mean(axis=1)) if num_randomisations > 1 else None
    if num_images == 1:
        return Variances(None, monte_carlo, num_randomisations - 1)
    if monte_carlo is None:
        return Variances(_variance_of_mean(values[0]), None, num_images - 1)
    values = values if shared is None else values - shared
    between = _variance_of_mean(values.mean(axis=0))
    within = float(values.var(axis=0, ddof=1).mean()) / (num_randomisations * num_images)
    images = max(between - within, 0.0)
    spread = (
        between**2 / (num_images - 1)
        + within**2 / (num_images * (num_randomisations - 1))
        + monte_carlo**2 / (num_randomisations - 1)
    )
    freedom = max((images + monte_carlo) ** 2 / spread, 1.0) if spread > 0 else num_images - 1
    return Variances(images, monte_carlo, freedom)


def t_interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """95 % by Student's t.

    scipy's intervals belong to its tests, which take degrees of freedom from the number of values;
    those of an estimate over images and randomisations are its own (Satterthwaite), as are errors by
    jackknife.
    """
    # Not scipy.stats: importing it would take a third of a launcher's start.
    reach = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    return (mean - reach, mean + reach)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values: all rejected at .05 are right together 95 % of the time."""
    adjusted, largest = np.empty(len(p_values)), 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = largest
    return adjusted.tolist()


def shared_in_time(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The least-squares piecewise linear function of times [repeats, R, N] nearest to `values` [R, N].

    Values are averages over repeats; with too few of them it is their mean.
    """
    num_nodes = min(_NUM_NODES, values.size // _VALUES_PER_NODE)
    if num_nodes < 2:
        return np.full(values.shape, values.mean())
    design = np.zeros((values.size, num_nodes))
    rows = np.arange(values.size)
    for repeat in times.reshape(len(times), -1).astype(np.float64):
        left = np.minimum((repeat * (num_nodes - 1)).astype(int), num_nodes - 2)
        share = repeat * (num_nodes - 1) - left
        design[rows, left] += (1.0 - share) / len(times)
        design[rows, left + 1] += share / len(times)
    # By the normal equations: they are small, and nodes that no time reaches are harmless.
    heights = np.linalg.lstsq(design.T @ design, design.T @ values.ravel(), rcond=None)[0]
    return (design @ heights).reshape(values.shape)


def _variance_of_mean(values: np.ndarray) -> float:
    return float(np.var(values, ddof=1)) / len(values)
