"""The cosine schedule, cut to the end points."""

import dataclasses

import jax.numpy as jnp

from vdm.schedules.base import per_example, step_times
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

OWN_ENDPOINTS = (-15.0, 15.0)


@dataclasses.dataclass(frozen=True)
class Cosine(Between):
    """gamma = 2 ln tan(phi),  phi(t) from atan(exp(gamma_0/2)) to atan(exp(gamma_1/2)), linear in t.

    That is alpha = cos(phi), sigma = sin(phi), of Nichol & Dhariwal 2021 without their offset. At
    phi = 0 and pi/2 gamma is infinite, so the angle runs only between the end points: with gamma_0 =
    -13.3 and gamma_1 = 5 over the part [.0008, .948] of the quarter circle. Both are constants, matched
    or the truncation "own": gamma = -15 and 15 (Hoogeboom et al. 2023, app. B).
    """

    def share(self, shape, t, context=None):
        return rescaled(self._log_tan, t)

    def gamma_increment(self, params, step, num_timesteps, context=None):
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        rise = jnp.zeros(())
        for sign, (start, end) in zip((1.0, -1.0), self._angles(), strict=True):
            angle_s, width = (1.0 - s) * start + s * end, (end - start) / num_timesteps
            middle = (1.0 - 0.5 * (s + t)) * start + 0.5 * (s + t) * end
            # sin(b) / sin(a) - 1, without a difference of close numbers.
            ratio = 2.0 * jnp.cos(middle) * jnp.sin(0.5 * width) / jnp.sin(angle_s)
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
    """The cosine between fixed end points, or gamma = -15 and 15; no parameters."""
    first, last = OWN_ENDPOINTS if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    return Cosine(dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False))
