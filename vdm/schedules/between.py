"""Schedules between two end points, which define only how far gamma has come at every time.

    gamma(t) = (1 - r) gamma_0 + r gamma_1,  r(t) from 0 to 1, strictly increasing

The *share* r(t) is the schedule's interior. All dimensions of an image have the same gamma_0 and
gamma_1, constants or two parameters; r may have parameters of its own, and differ between pixels
and images.
"""

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vdm.schedules.base import Schedule, per_example, step_times
from vdm.schedules.endpoints import Endpoints
from vdm.types import Context, Gamma, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Between(Schedule):
    """A schedule between two end points. A variant defines `share`; `init_interior` if learned.

    Attributes:
      endpoints: gamma(0) and gamma(1).
    """

    endpoints: Endpoints

    @abc.abstractmethod
    def share(self, interior: Params, t: Gamma, context: Context | None = None) -> Gamma:
        """Return r(t), broadcastable to a latent; exactly 0 at t = 0 and 1 at t = 1.

        Args:
          interior: the parameters that `init_interior` gave; {} for a fixed interior.
          t: times [B,1,1,1], float32.
          context: what a conditional schedule knows of each image [B,K].
        """

    def share_rise(
        self,
        interior: Params,
        s: Gamma,
        t: Gamma,
        num_timesteps: int,
        context: Context | None = None,
    ) -> tuple[Gamma, Gamma | float]:
        """Return (rise, whole) with r(t) - r(s) = rise/whole, each broadcastable to a latent.

        A variant with a closed form overrides this: the difference of two shares close to each
        other keeps few of their digits.

        Args:
          interior: as in `share`.
          s: earlier times [B,1,1,1].
          t: later times, t - s = 1/num_timesteps [B,1,1,1].
          num_timesteps: T, given besides the times because t - s in float32 is only nearly 1/T.
          context: as in `share`.
        """
        return self.share(interior, t, context) - self.share(interior, s, context), 1.0

    def init_interior(self, key: PRNGKey) -> Params:
        """Return fresh parameters of r, here {} for a fixed interior; `key` is consumed."""
        del key
        return {}

    def init(self, key):
        """Return the branches "endpoints" and "shape" (the interior), each where it has parameters."""
        interior = self.init_interior(key)
        return {**self.endpoints.init(), **({"shape": interior} if interior else {})}

    def gamma(self, params, t, context=None):
        """Return (1 - r) gamma_0 + r gamma_1, exact at both ends."""
        gamma_0, gamma_1 = self.endpoints.values(params)
        share = self.share(params.get("shape", {}), per_example(t), context)
        # This form, unlike gamma_0 + r (gamma_1 - gamma_0), is exact at both ends in float32.
        return (1.0 - share) * gamma_0 + share * gamma_1

    def gamma_increment(self, params, step, num_timesteps, context=None):
        """Return (gamma_1 - gamma_0) (r(t) - r(s))."""
        gamma_0, gamma_1 = self.endpoints.values(params)
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        rise, whole = self.share_rise(params.get("shape", {}), s, t, num_timesteps, context)
        return (gamma_1 - gamma_0) * rise / whole

    def end_gammas(self, params, context=None):
        """Return the end points themselves, [1,1,1,1] each, whatever the interior and the context."""
        del context
        gamma_0, gamma_1 = self.endpoints.values(params)
        return gamma_0.reshape(1, 1, 1, 1), gamma_1.reshape(1, 1, 1, 1)

    def project(self, params):
        """Return parameters with the end points in order and in range; every interior is valid."""
        return self.endpoints.project(params)


def rescaled(function: Callable[[jax.Array], jax.Array], t: Gamma) -> Gamma:
    """Return (f(t) - f(0)) / (f(1) - f(0)), exactly 0 and 1 at the ends, however f rounds."""
    # The ends go through the same function as t, so that numerator and denominator round alike.
    zero, one = (function(jnp.full((1, 1, 1, 1), end)) for end in (0.0, 1.0))
    return (function(t) - zero) / (one - zero)
