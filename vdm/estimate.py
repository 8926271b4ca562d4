"""Values per randomisation and image -> their mean in bits/dim, and how sure it is.

A value is y_ri = m_i + e_ri: what image i costs, and the Monte Carlo error of randomisation r. Images
are independent, and so are randomisations. The errors of different images in *one* randomisation are
not: their times are spread evenly, so that the errors nearly cancel in the mean. Hence

    Var(mean) = Var_i(m_i)/N + Var(mean_i e_i)/R
    Var_i(m_i)      estimated by  Var_i(mean_r y_ri) - mean_i Var_r(y_ri)/R
    Var(mean_i e_i) estimated by  Var_r(mean_i y_ri)

The scatter of mean_r y_ri over images alone would count e as if it were independent: three times the
error for a digits model at R = 1, which is all that a single randomisation allows.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

from vdm.types import bits_per_dim

CONFIDENCE = 0.95


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
    """

    mean: float
    standard_error: float | None
    monte_carlo_error: float | None
    interval: tuple[float, float] | None


def estimate(nats: np.ndarray, num_dims: int) -> Estimate:
    """The mean of [R, N] values in nats over randomisations and images, with its errors."""
    values = bits_per_dim(np.asarray(nats, np.float64), num_dims)
    num_randomisations, num_images = values.shape
    mean = float(values.mean())
    monte_carlo = _variance_of_mean(values.mean(axis=1)) if num_randomisations > 1 else None
    error = interval = None
    if num_images > 1:
        variance, freedom = _over_images(values, monte_carlo)
        error = math.sqrt(variance)
        reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
        interval = (mean - reach, mean + reach)
    return Estimate(mean, error, None if monte_carlo is None else math.sqrt(monte_carlo), interval)


def _over_images(values: np.ndarray, monte_carlo: float | None) -> tuple[float, float]:
    """(variance of the mean, its degrees of freedom by Satterthwaite)."""
    num_randomisations, num_images = values.shape
    between = _variance_of_mean(values.mean(axis=0))
    if monte_carlo is None:
        return between, num_images - 1
    within = float(values.var(axis=0, ddof=1).mean()) / (num_randomisations * num_images)
    variance = max(between - within, 0.0) + monte_carlo
    spread = (
        between**2 / (num_images - 1)
        + within**2 / (num_images * (num_randomisations - 1))
        + monte_carlo**2 / (num_randomisations - 1)
    )
    return variance, max(variance**2 / spread, 1.0) if spread > 0 else num_images - 1


def _variance_of_mean(values: np.ndarray) -> float:
    return float(np.var(values, ddof=1)) / len(values)
