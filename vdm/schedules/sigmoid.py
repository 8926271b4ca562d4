"""The sigmoid schedule, cut to the end points."""

import dataclasses
import math

import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.schedules.base import per_example, step_times
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

OWN_ENDPOINTS = (-15.0, 15.0)


@dataclasses.dataclass(frozen=True)
class Sigmoid(Between):
    """alpha^2(u) = (S(b) - S(v)) / (S(b) - S(a)),  v = a + (b - a) u,  S the logistic function

    (Jabri et al. 2022; Chen 2023, sec. 2, with its temperature 1.) gamma is -inf at u = 0 and +inf at
    u = 1, so u runs linearly in t only between the two values that give the end points: with a = -3,
    b = 3, gamma_0 = -13.3 and gamma_1 = 5 over the part [5.6e-6, .978]. In closed form

        gamma = ln(1 - e^(-(b-a) u)) - ln(1 - e^(-(b-a)(1-u))) + v + softplus(-b) - softplus(a)

    Attributes:
      endpoints: constants, matched or the truncation "own": gamma = -15 and 15.
      start, end: a and b; the larger their distance, the longer at the ends.
    """

    start: float
    end: float

    def share(self, shape, t, context=None):
        return rescaled(self._native, t)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        width = (self._ends()[0][1] - self._ends()[0][0]) / num_timesteps
        v_s, rest_t = self._ways(s)[0], self._ways(t)[1]
        rise = width + jnp.zeros_like(s)
        for way in (v_s, rest_t):
            # ln (1 - e^-(w + width))/(1 - e^-w), without a difference of close numbers.
            rise += jnp.log1p(jnp.exp(-way) * -jnp.expm1(-width) / -jnp.expm1(-way))
        return rise

    def _native(self, t):
        """gamma up to a constant."""
        way, rest = self._ways(t)
        return jnp.log(-jnp.expm1(-way)) - jnp.log(-jnp.expm1(-rest)) + way

    def _ways(self, t):
        """(v - a, b - v), each precise where it is small."""
        return tuple((1.0 - t) * first + t * last for first, last in self._ends())

    def _ends(self):
        """((v - a at t = 0, at t = 1), (b - v at t = 0, at t = 1)), in float64."""
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
    return 1.0 / (1.0 + math.exp(-x))


def sigmoid(
    endpoints: Endpoints, start: float = -3.0, end: float = 3.0, own_endpoints: bool = False
) -> Sigmoid:
    """Between fixed end points, or gamma = -15 and 15; no parameters."""
    if not -30.0 <= start < end <= 30.0:
        raise ConfigError(
            f"schedule.sigmoid.start={start}, end={end}: choose -30 <= start < end <= 30"
        )
    first, last = OWN_ENDPOINTS if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    ends = dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False)
    return Sigmoid(ends, start, end)
