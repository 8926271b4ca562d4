"""A monotone rational-quadratic spline: a smooth learned interior with few parameters.

Sources: Gregory & Delbourgo 1982; Durkan et al. 2019, "Neural Spline Flows" (arXiv:1906.04032),
eq. 4.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdm.schedules import knots
from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints

MIN_SLOPE = 1e-3
"""Lower limit of dr/dt at a knot, which keeps gamma strictly increasing."""


@dataclasses.dataclass(frozen=True)
class RationalSpline(Between):
    """gamma(t) = (1 - r) gamma_0 + r gamma_1, and between the knots (t_k, r_k), (t_k+1, r_k+1)

        r = r_k + (r_k+1 - r_k) (m x^2 + d_k x (1 - x)) / (m + (d_k+1 + d_k - 2 m) x (1 - x))

    with x = (t - t_k)/(t_k+1 - t_k), the mean slope m of the piece, and slopes d_k > 0 at the
    knots. r is once continuously differentiable, and monotone whatever the parameters. Times,
    shares and slopes of the knots are all learned.

    Attributes:
      endpoints: gamma(0) and gamma(1).
      times: t_k, from 0 to 1 [K + 2]; initial values where the interior is learned.
      shares: r_k, from 0 to 1 [K + 2]; initial values where the interior is learned.
      learned: whether times, shares and slopes are parameters.
    """

    times: tuple[float, ...]
    shares: tuple[float, ...]
    learned: bool

    def init_interior(self, key):
        del key
        return self._start() if self.learned else {}

    def share(self, interior, t, context=None):
        times, shares, slopes = self._knots(interior)
        k = knots.piece(times, t)

        # Values at the knots before and after t; `along` is then the fraction of the piece's own
        # rise.
        start, end, low, high, d_0, d_1 = (
            jnp.take(values, k + after) for values in (times, shares, slopes) for after in (0, 1)
        )
        x, m = (t - start) / (end - start), (high - low) / (end - start)
        bulge = x * (1.0 - x)
        along = (m * x * x + d_0 * bulge) / (m + (d_1 + d_0 - 2.0 * m) * bulge)
        return (1.0 - along) * low + along * high

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        times, shares, slopes = self._knots(interior)
        widths, heights, start, d_0, d_1 = (
            values[None, None, None, :]
            for values in (
                *(jnp.diff(times), jnp.diff(shares), times[:-1], slopes[:-1], slopes[1:]),
            )
        )

        # A step may cross knots. In every piece x and y are the positions, 0 to 1, at which it
        # enters and leaves; where it does not touch the piece they are equal and contribute
        # nothing.
        inside = knots.overlaps(times, s, 1.0 / num_timesteps) / widths
        x = jnp.clip((s - start) / widths, 0.0, 1.0)
        y = jnp.minimum(x + inside, 1.0)
        # r(y) - r(x) has the factor y - x: no difference of two close numbers, and no minus sign.
        m = heights / widths
        steep = m * (x * (1.0 - y) + y * (1.0 - x)) + d_0 * (1.0 - x) * (1.0 - y) + d_1 * x * y
        below = [m + (d_1 + d_0 - 2.0 * m) * v * (1.0 - v) for v in (x, y)]
        rise = heights * inside * m * steep / (below[0] * below[1])
        return jnp.sum(rise, axis=-1, keepdims=True), 1.0

    def _start(self):
        """Return initial parameters through the given knots.

        Slopes are weighted harmonic means of the neighbouring pieces' (Fritsch & Butland 1984),
        which keep a spline through monotone data free of overshoot.
        """
        widths, heights = np.diff(self.times), np.diff(self.shares)
        mean = heights / widths
        before, after = widths[:-1] + 2.0 * widths[1:], 2.0 * widths[:-1] + widths[1:]
        inner = (before + after) / (before / mean[:-1] + after / mean[1:])
        slopes = np.concatenate([mean[:1], inner, mean[-1:]])
        raw = np.log(np.expm1(np.maximum(slopes - MIN_SLOPE, 1e-6)))  # the inverse of softplus
        return {
            "widths": knots.logits(self.times),
            "heights": knots.logits(self.shares),
            "slopes": jnp.asarray(raw, jnp.float32),
        }

    def _knots(self, interior):
        """Return (times, shares, slopes) of all knots [K + 2] each, the ends included."""
        interior = interior if self.learned else self._start()
        slopes = MIN_SLOPE + jax.nn.softplus(interior["slopes"])
        return (
            knots.learned_edges(interior["widths"]),
            knots.learned_edges(interior["heights"]),
            slopes,
        )


def rational_spline(
    endpoints: Endpoints,
    num_knots: int = 16,
    times: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    learned: bool = True,
    learned_endpoints: bool = True,
) -> RationalSpline:
    """Return a rational-quadratic spline with K inner knots.

    Args:
      endpoints: gamma(0) and gamma(1), or where they start.
      num_knots: K where neither `times` nor `shares` is given.
      times: times of the inner knots; None for evenly spaced ones.
      shares: shares of the way at the inner knots; None for the straight line.
      learned: whether the interior is learned from there, or fixed.
      learned_endpoints: whether the end points are parameters.

    Raises:
      ConfigError: unsuitable knots, see `vdm.schedules.knots.start_at`.
    """
    times, shares = knots.start_at("rational_spline", num_knots, times, shares)
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    return RationalSpline(ends, times, shares, learned)
