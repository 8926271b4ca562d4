"""Schedules between two end points: a variant defines how far on the way gamma is at every time.

    gamma(t) = (1 - r) gamma_0 + r gamma_1,  r(t) from 0 to 1, strictly increasing

All dimensions of an image share gamma_0 and gamma_1, constants or two parameters; r may have parameters
of its own, and differ between pixels and images.
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
    """A schedule between two end points. A variant defines `share`, and `init_shape` if r is learned.

    Attributes:
      endpoints: gamma(0) and gamma(1).
    """

    endpoints: Endpoints

    @abc.abstractmethod
    def share(self, shape: Params, t: Gamma, context: Context | None = None) -> Gamma:
        """r(t), broadcastable to a latent; exactly 0 and 1 at the two ends.

        Args:
          shape: the parameters that `init_shape` gave; {} for a fixed shape.
          t: times [B,1,1,1], float32.
          context: what a conditional schedule knows of each image [B,K].
        """

    def share_rise(
        self, shape: Params, s: Gamma, t: Gamma, num_timesteps: int, context: Context | None = None
    ) -> tuple[Gamma, Gamma | float]:
        """(rise, whole) with r(t) - r(s) = rise/whole and t - s = 1/num_timesteps; [B,1,1,1] times.

        A variant with a closed form overrides this: the difference of two shares close to each other
        keeps few of their digits.
        """
        return self.share(shape, t, context) - self.share(shape, s, context), 1.0

    def init_shape(self, key: PRNGKey) -> Params:
        """Fresh parameters of r; `key` is consumed. Here {}: a fixed shape."""
        del key
        return {}

    def init(self, key):
        """The branches "endpoints" and "shape", each where it has parameters."""
        shape = self.init_shape(key)
        return {**self.endpoints.init(), **({"shape": shape} if shape else {})}

    def gamma(self, params, t, context=None):
        """(1 - r) gamma_0 + r gamma_1."""
        gamma_0, gamma_1 = self.endpoints.values(params)
        share = self.share(params.get("shape", {}), per_example(t), context)
        # This form, unlike gamma_0 + r (gamma_1 - gamma_0), is exact at both ends in float32.
        return (1.0 - share) * gamma_0 + share * gamma_1

    def gamma_increment(self, params, step, num_timesteps, context=None):
        """(gamma_1 - gamma_0) (r(t) - r(s))."""
        gamma_0, gamma_1 = self.endpoints.values(params)
        t, s = (per_example(time) for time in step_times(step, num_timesteps))
        rise, whole = self.share_rise(params.get("shape", {}), s, t, num_timesteps, context)
        return (gamma_1 - gamma_0) * rise / whole

    def end_gammas(self, params, context=None):
        """The end points themselves, [1,1,1,1] each, whatever the shape and the context."""
        del context
        gamma_0, gamma_1 = self.endpoints.values(params)
        return gamma_0.reshape(1, 1, 1, 1), gamma_1.reshape(1, 1, 1, 1)

    def project(self, params):
        """End points put back in order and into range; shapes are valid whatever their numbers."""
        return self.endpoints.project(params)


def rescaled(function: Callable[[jax.Array], jax.Array], t: Gamma) -> Gamma:
    """(f(t) - f(0)) / (f(1) - f(0)): exactly 0 and 1 at the ends, however f rounds."""
    zero, one = (function(jnp.full((1, 1, 1, 1), end)) for end in (0.0, 1.0))
    return (function(t) - zero) / (one - zero)
