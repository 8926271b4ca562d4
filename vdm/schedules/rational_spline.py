"""A monotone rational-quadratic spline: a smooth learned shape with few parameters."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdm.schedules import knots
from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints

MIN_SLOPE = 1e-3
"""Of dr/dt at a knot."""


@dataclasses.dataclass(frozen=True)
class RationalSpline(Between):
    """gamma(t) = (1 - r) gamma_0 + r gamma_1, and between the knots (t_k, r_k), (t_k+1, r_k+1)

        r = r_k + (r_k+1 - r_k) (m x^2 + d_k x (1 - x)) / (m + (d_k+1 + d_k - 2 m) x (1 - x))

    with x = (t - t_k)/(t_k+1 - t_k), the mean slope m of the piece, and slopes d_k > 0 at the knots:
    once continuously differentiable, and monotone whatever the parameters (Gregory & Delbourgo 1982;
    Durkan et al. 2019, eq. 4). Times, shares and slopes of the knots are all learned.

    Attributes:
      endpoints: gamma(0) and gamma(1).
      times, shares: t_k and r_k, from 0 to 1, where the shape starts.
      learned: whether the shape moves from there.
    """

    times: tuple[float, ...]
    shares: tuple[float, ...]
    learned: bool

    def init_shape(self, key):
        del key
        return self._start() if self.learned else {}

    def share(self, shape, t, context=None):
        times, shares, slopes = self._knots(shape)
        k = knots.piece(times, t)
        start, end, low, high, d_0, d_1 = (
            jnp.take(values, k + after) for values in (times, shares, slopes) for after in (0, 1)
        )
        x, m = (t - start) / (end - start), (high - low) / (end - start)
        bulge = x * (1.0 - x)
        along = (m * x * x + d_0 * bulge) / (m + (d_1 + d_0 - 2.0 * m) * bulge)
        return (1.0 - along) * low + along * high

    def share_rise(self, shape, s, t, num_timesteps, context=None):
        times, shares, slopes = self._knots(shape)
        widths, heights, start, d_0, d_1 = (
            values[None, None, None, :]
            for values in (
                *(jnp.diff(times), jnp.diff(shares), times[:-1], slopes[:-1], slopes[1:]),
            )
        )
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
        """Parameters of the knots; slopes are means of the pieces' (Fritsch & Butland 1984)."""
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

    def _knots(self, shape):
        shape = shape if self.learned else self._start()
        slopes = MIN_SLOPE + jax.nn.softplus(shape["slopes"])
        return knots.learned_edges(shape["widths"]), knots.learned_edges(shape["heights"]), slopes


def rational_spline(
    endpoints: Endpoints,
    num_knots: int = 16,
    times: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    learned: bool = True,
    learned_endpoints: bool = True,
) -> RationalSpline:
    """K inner knots that start even on the line, or at `times` and `shares`."""
    times, shares = knots.start_at("rational_spline", num_knots, times, shares)
    ends = dataclasses.replace(endpoints, learned=learned_endpoints)
    return RationalSpline(ends, times, shares, learned)
