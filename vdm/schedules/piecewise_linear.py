"""Straight lines between knots: the plainest learned shape, and any table of gammas as a schedule."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from vdm.schedules import knots
from vdm.schedules.base import Schedule, per_example, step_times
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class PiecewiseLinear(Schedule):
    """gamma(t) = (1 - r) gamma_0 + r gamma_1,  r(t) linear between r_k at the knots t_k

    The times of the knots stay where they are: dgamma/dt jumps there, and a gradient through the
    values alone would miss what moving a jump does to the variance of the bound. A learned shape has
    r_(k+1) - r_k = softmax, each at least a thousandth of an even share.

    Attributes:
      endpoints: gamma(0) and gamma(1).
      times: t_k, from 0 to 1.
      shares: r_k, from 0 to 1; where a learned shape starts.
      learned: whether the shares are learned.
    """

    endpoints: Endpoints
    times: tuple[float, ...]
    shares: tuple[float, ...]
    learned: bool

    def init(self, key):
        del key
        shape = {"shape": {"rises": knots.logits(self.shares)}} if self.learned else {}
        return {**self.endpoints.init(), **shape}

    def gamma(self, params, t, context=None):
        gamma_0, gamma_1 = self.endpoints.values(params)
        times, shares = self._knots(params)
        t = per_example(t)
        k = knots.piece(times, t)
        start, end = jnp.take(times, k), jnp.take(times, k + 1)
        along = (t - start) / (end - start)
        share = (1.0 - along) * jnp.take(shares, k) + along * jnp.take(shares, k + 1)
        return (1.0 - share) * gamma_0 + share * gamma_1

    def gamma_increment(self, params, step, num_timesteps, context=None):
        gamma_0, gamma_1 = self.endpoints.values(params)
        times, shares = self._knots(params)
        s = per_example(step_times(step, num_timesteps)[1])
        slopes = (jnp.diff(shares) / jnp.diff(times))[None, None, None, :]
        inside = knots.overlaps(times, s, 1.0 / num_timesteps)
        return (gamma_1 - gamma_0) * jnp.sum(slopes * inside, axis=-1, keepdims=True)

    def project(self, params):
        return self.endpoints.project(params)

    def _knots(self, params):
        times = jnp.asarray(self.times, jnp.float32)
        if self.learned:
            return times, knots.learned_edges(params["shape"]["rises"])
        return times, jnp.asarray(self.shares, jnp.float32)


def piecewise_linear(
    endpoints: Endpoints,
    num_knots: int = 16,
    times: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    learned: bool = True,
    learned_endpoints: bool = True,
) -> PiecewiseLinear:
    """K inner knots, even or at `times`; a shape that is learned, or fixed at `shares`."""
    times, shares = knots.start_at("piecewise_linear", num_knots, times, shares)
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    return PiecewiseLinear(ends, times, shares, learned)
