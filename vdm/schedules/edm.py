"""EDM's log-normal distribution of noise levels as a schedule: gamma is its quantile function.

Source: Karras et al. 2022 (arXiv:2206.00364), table 1.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from scipy.special import ndtr

from vdm.errors import ConfigError
from vdm.schedules.base import per_example, step_times
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
"""EDM's range of sigma, which is its ratio of noise to signal."""


@dataclasses.dataclass(frozen=True)
class Edm(Between):
    """gamma(t) = 2 m + 2 s Phi^-1(p(t)),  p linear in t from Phi(z_0) to Phi(z_1)

    EDM trains at ln sigma ~ N(m, s^2), where its sigma is the ratio of noise to signal: gamma = 2
    ln sigma. With t uniform, this gamma has that density, truncated at the end points z = (gamma/2
    - m)/s, without which gamma(0) and gamma(1) would be infinite. An increment has no closed form:
    it is an integral of dgamma/dt.

    Attributes:
      endpoints: constants, those of the configuration or EDM's own, sigma in [.002, 80]: gamma =
        -12.43 and 8.76.
      mean: m, the mean of ln sigma.
      deviation: s, the standard deviation of ln sigma.
    """

    mean: float
    deviation: float

    def share(self, interior, t, context=None):
        return rescaled(lambda t: self._quantile(t, 1.0 - t), t)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        """Return increments by Gauss-Legendre quadrature, or as a difference close to a tail's end."""
        times = step_times(step, num_timesteps)
        t, s = (per_example(time) for time in times)
        # 1 - t from the integer: next to t = 1 the float has lost the tail's precision.
        rest = per_example((num_timesteps - step) / num_timesteps)

        # dgamma/dt is 2 s (dp/dt) sqrt(2 pi) exp(z^2/2), and dp/dt is a constant, taken from the
        # tail in which it is precise.
        (below_0, below_1), (above_0, above_1) = self._tails()
        change = max(below_1 - below_0, above_0 - above_1)
        integral = jnp.zeros_like(s)

        # Four nodes suffice: over one step the integrand is smooth, except next to the ends.
        for node, weight in zip(*np.polynomial.legendre.leggauss(4), strict=True):
            offset = float(node + 1.0) / 2.0 / num_timesteps
            z = self._quantile(s + offset, rest + (1.0 / num_timesteps - offset))
            integral += float(weight) * jnp.exp(0.5 * jnp.square(z))
        scale = 2.0 * self.deviation * change * math.sqrt(2.0 * math.pi)

        # In a tail of only a few steps, exp(z^2/2) changes too much within a step for the nodes;
        # there the plain difference is large enough to be precise.
        difference = self.gamma(params, times[0]) - self.gamma(params, times[1])
        tail = jnp.minimum(self._shares(s, 1.0 - s)[0], self._shares(t, rest)[1])
        smooth = tail > 4.0 * change / num_timesteps
        return jnp.where(smooth, integral * (scale / (2.0 * num_timesteps)), difference)

    def _quantile(self, t, rest):
        """Return Phi^-1(p(t)) from the smaller of p and 1 - p, which alone is precise in its tail."""
        below, above = self._shares(t, rest)
        low = below < above
        quantile = ndtri(jnp.where(low, below, above))
        return jnp.where(low, quantile, -quantile)

    def _shares(self, t, rest):
        """Return (p, 1 - p) at t = 1 - rest."""
        # A compiled time may come out a hair beyond 1, which the upper tail would show.
        rest = jnp.maximum(rest, 0.0)
        return tuple(rest * first + t * last for first, last in self._tails())

    def _tails(self):
        """Return ((p(0), p(1)), (1 - p(0), 1 - p(1))), in float64."""
        ends = (self.endpoints.gamma_0, self.endpoints.gamma_1)
        z = np.array([(0.5 * gamma - self.mean) / self.deviation for gamma in ends])
        return tuple(tuple(float(share) for share in ndtr(sign * z)) for sign in (1, -1))


def edm(
    endpoints: Endpoints, mean: float = -1.2, deviation: float = 1.2, own_endpoints: bool = False
) -> Edm:
    """Return EDM's schedule, which has no parameters.

    Args:
      endpoints: gamma(0) and gamma(1), used as constants.
      mean: mean of ln sigma.
      deviation: standard deviation of ln sigma, positive.
      own_endpoints: use EDM's range sigma in [.002, 80] instead of `endpoints`.

    Raises:
      ConfigError: deviation is not positive, or an end point lies more than 12 deviations from the
        mean.
    """
    edm_gammas = tuple(2.0 * math.log(sigma) for sigma in (SIGMA_MIN, SIGMA_MAX))
    first, last = edm_gammas if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    ends = dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False)
    if not deviation > 0:
        raise ConfigError(f"schedule.edm.deviation={deviation}: must be positive")

    # Phi(-12) is 2e-33, a normal float32 number; Phi(-13) is not.
    reach = np.abs([(0.5 * gamma - mean) / deviation for gamma in (first, last)]).max()
    if not reach <= 12.0:
        raise ConfigError(
            f"schedule.edm.mean={mean}, deviation={deviation}: gamma in [{first:.4g}, {last:.4g}] "
            f"reaches {reach:.3g} deviations, where float32 has no quantiles (12 at most)"
        )
    return Edm(ends, mean, deviation)
