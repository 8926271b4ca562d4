"""The cosine schedule, restricted to the part between the end points."""

import dataclasses

import jax.numpy as jnp

from vdm.schedules.base import per_example, step_times
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

OWN_ENDPOINTS = (-15.0, 15.0)
"""gamma(0) and gamma(1) with `own_endpoints`: the truncation of Hoogeboom et al. 2023
(arXiv:2301.11093), app. B.
"""


@dataclasses.dataclass(frozen=True)
class Cosine(Between):
    """gamma = 2 ln tan(phi),  phi linear in t from atan(exp(gamma_0/2)) to atan(exp(gamma_1/2))

    That is alpha = cos(phi), sigma = sin(phi), as in Nichol & Dhariwal 2021 (arXiv:2102.09672)
    without their offset. gamma is infinite at phi = 0 and pi/2, so the angle runs only between the
    end points: with gamma_0 = -13.3 and gamma_1 = 5 over the part [.0008, .948] of the quarter
    circle. The end points are constants: those of the configuration, or OWN_ENDPOINTS.
    """

    def share(self, interior, t, context=None):
        return rescaled(self._log_tan, t)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        """Return 2 ln tan(phi_t) - 2 ln tan(phi_s) from the ratio of two sines."""
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        rise = jnp.zeros(())

        # tan is a quotient of two sines, of phi and of its complement: each contributes the
        # logarithm of its ratio between s and t, with opposite signs.
        for sign, (start, end) in zip((1.0, -1.0), self._angles(), strict=True):
            phi_s, width = (1.0 - s) * start + s * end, (end - start) / num_timesteps
            middle = (1.0 - 0.5 * (s + t)) * start + 0.5 * (s + t) * end
            # sin(b) / sin(a) - 1, without a difference of close numbers.
            ratio = 2.0 * jnp.cos(middle) * jnp.sin(0.5 * width) / jnp.sin(phi_s)
            rise = rise + sign * 2.0 * jnp.log1p(ratio)
        return rise

    def _angles(self):
        """(start, end) of phi and of its complement pi/2 - phi, each precise where it is small."""
        gammas = (self.endpoints.gamma_0, self.endpoints.gamma_1)
        ends = [
            jnp.arctan(jnp.exp(0.5 * sign * jnp.float32(g))) for sign in (1, -1) for g in gammas
        ]
        return ends[:2], ends[2:]

    def _log_tan(self, t):
        """2 ln tan(phi(t)) = 2 ln sin(phi) - 2 ln sin(pi/2 - phi)."""
        sines = [jnp.sin((1.0 - t) * start + t * end) for start, end in self._angles()]
        return 2.0 * (jnp.log(sines[0]) - jnp.log(sines[1]))


def cosine(endpoints: Endpoints, own_endpoints: bool = False) -> Cosine:
    """Return the cosine schedule, which has no parameters.

    Args:
      endpoints: gamma(0) and gamma(1), used as constants.
      own_endpoints: use OWN_ENDPOINTS instead.
    """
    first, last = OWN_ENDPOINTS if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    return Cosine(dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False))
