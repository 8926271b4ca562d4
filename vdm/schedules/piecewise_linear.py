"""Straight lines between knots: the plainest learned interior, or any table of gammas."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from vdm.schedules import knots
from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class PiecewiseLinear(Between):
    """gamma(t) = (1 - r) gamma_0 + r gamma_1,  r(t) linear between r_k at the knots t_k

    The times of the knots are fixed: dgamma/dt jumps at them, and a gradient through the values
    alone would miss what moving a jump does to the variance of the bound. A learned interior has
    r_(k+1) - r_k = softmax, each at least a thousandth of an even share.

    Attributes:
      endpoints: gamma(0) and gamma(1).
      times: t_k, from 0 to 1 [K + 2].
      shares: r_k, from 0 to 1 [K + 2]; initial values where the interior is learned.
      learned: whether the shares are learned.
    """

    times: tuple[float, ...]
    shares: tuple[float, ...]
    learned: bool

    def init_interior(self, key):
        del key
        return {"rises": knots.logits(self.shares)} if self.learned else {}

    def share(self, interior, t, context=None):
        times, shares = self._knots(interior)
        k = knots.piece(times, t)
        start, end = jnp.take(times, k), jnp.take(times, k + 1)
        along = (t - start) / (end - start)
        return (1.0 - along) * jnp.take(shares, k) + along * jnp.take(shares, k + 1)

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        times, shares = self._knots(interior)

        # A step may cross knots: each piece contributes its slope times the time spent in it.
        slopes = (jnp.diff(shares) / jnp.diff(times))[None, None, None, :]
        inside = knots.overlaps(times, s, 1.0 / num_timesteps)
        return jnp.sum(slopes * inside, axis=-1, keepdims=True), 1.0

    def _knots(self, interior):
        """Return (times, shares) of all knots [K + 2] each, the ends included."""
        times = jnp.asarray(self.times, jnp.float32)
        if self.learned:
            return times, knots.learned_edges(interior["rises"])
        return times, jnp.asarray(self.shares, jnp.float32)


def piecewise_linear(
    endpoints: Endpoints,
    num_knots: int = 16,
    times: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    learned: bool = True,
    learned_endpoints: bool = True,
) -> PiecewiseLinear:
    """Return a piecewise linear schedule with K inner knots.

    Args:
      endpoints: gamma(0) and gamma(1), or where they start.
      num_knots: K where neither `times` nor `shares` is given.
      times: times of the inner knots; None for evenly spaced ones.
      shares: shares of the way at the inner knots; None for the straight line.
      learned: whether the shares are parameters that start there.
      learned_endpoints: whether the end points are parameters.

    Raises:
      ConfigError: unsuitable knots, see `vdm.schedules.knots.start_at`.
    """
    times, shares = knots.start_at("piecewise_linear", num_knots, times, shares)
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    return PiecewiseLinear(ends, times, shares, learned)
