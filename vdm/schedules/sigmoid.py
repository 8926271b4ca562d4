"""The sigmoid schedule, restricted to the part between the end points.

Sources: Jabri et al. 2022 (arXiv:2212.11972); Chen 2023 (arXiv:2301.10972), sec. 2, at temperature
1.
"""

import dataclasses
import math

import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.schedules.base import per_example, step_times
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

OWN_ENDPOINTS = (-15.0, 15.0)
"""gamma(0) and gamma(1) with `own_endpoints`, the same truncation as the cosine's."""
MIN_SPAN = 1e-6
"""Least b - a: below, S(b) - S(a) has no precision left, and is 0 at last."""


@dataclasses.dataclass(frozen=True)
class Sigmoid(Between):
    """alpha^2(u) = (S(b) - S(v)) / (S(b) - S(a)),  v = a + (b - a) u,  S the logistic function

    gamma is -inf at u = 0 and +inf at u = 1, so u runs linearly in t only between the two values
    that give the end points: with a = -3, b = 3, gamma_0 = -13.3 and gamma_1 = 5 over the part
    [5.6e-6, .978]. In closed form

        gamma = ln(1 - e^(-(b-a) u)) - ln(1 - e^(-(b-a)(1-u))) + v + softplus(-b) - softplus(a)

    Attributes:
      endpoints: constants, those of the configuration or OWN_ENDPOINTS.
      start: a.
      end: b; the larger b - a, the more time is spent near the two ends.
    """

    start: float
    end: float

    def share(self, interior, t, context=None):
        return rescaled(self._native, t)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        """Return the increment of each of the three terms of gamma that depend on time."""
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        width = (self._ends()[0][1] - self._ends()[0][0]) / num_timesteps
        v_s, rest_t = self._distances(s)[0], self._distances(t)[1]
        rise = width + jnp.zeros_like(s)

        # v - a grows and b - v shrinks with time: each is taken at the end of the step where it is
        # least.
        for distance in (v_s, rest_t):
            # ln (1 - e^-(w + width))/(1 - e^-w), without a difference of close numbers.
            rise += jnp.log1p(jnp.exp(-distance) * -jnp.expm1(-width) / -jnp.expm1(-distance))
        return rise

    def _native(self, t):
        """Return gamma up to a constant, which rescaling removes."""
        distance, rest = self._distances(t)
        return jnp.log(-jnp.expm1(-distance)) - jnp.log(-jnp.expm1(-rest)) + distance

    def _distances(self, t):
        """Return (v - a, b - v), each precise where it is small."""
        return tuple((1.0 - t) * first + t * last for first, last in self._ends())

    def _ends(self):
        """Return ((v - a at t = 0, at t = 1), (b - v at t = 0, at t = 1)), in float64."""
        low, high = _logistic(self.start), _logistic(self.end)
        gammas = (self.endpoints.gamma_0, self.endpoints.gamma_1)
        noise = [_logistic(gamma) * (high - low) for gamma in gammas]
        signal = [_logistic(-gamma) * (high - low) for gamma in gammas]
        # v - a = logit(low + noise) - logit(low), and so for b - v.
        return (
            tuple(math.log1p(p / low) - math.log1p(-p / (1.0 - low)) for p in noise),
            tuple(math.log1p(q / (1.0 - high)) - math.log1p(-q / high) for q in signal),
        )


def _logistic(x: float) -> float:
    """Return S(x), in float64."""
    return 1.0 / (1.0 + math.exp(-x))


def sigmoid(
    endpoints: Endpoints, start: float = -3.0, end: float = 3.0, own_endpoints: bool = False
) -> Sigmoid:
    """Return the sigmoid schedule, which has no parameters.

    Args:
      endpoints: gamma(0) and gamma(1), used as constants.
      start: a, at least -30.
      end: b, at least MIN_SPAN above `start` and at most 30.
      own_endpoints: use OWN_ENDPOINTS instead of `endpoints`.

    Raises:
      ConfigError: start and end are out of order or out of range.
    """
    if not (-30.0 <= start and start + MIN_SPAN <= end <= 30.0):
        raise ConfigError(
            f"schedule.sigmoid.start={start}, end={end}: choose -30 <= start < end <= 30, "
            f"at least {MIN_SPAN:g} apart"
        )
    first, last = OWN_ENDPOINTS if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    ends = dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False)
    return Sigmoid(ends, start, end)
