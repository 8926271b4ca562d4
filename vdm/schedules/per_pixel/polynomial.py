"""A polynomial of degree 5 for every dimension, unconditional or conditional on the image."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vdm.schedules.endpoints import Endpoints
from vdm.schedules.per_pixel.base import Conditioner, Form, PerPixel, make_per_pixel

FLOOR = 1e-3
"""Share of a uniform density: where the quadratic is 0 gamma still increases, strictly."""
_POINTS, _SHARES = np.polynomial.legendre.leggauss(3)
_NODES = tuple(float(point) / 2 + 0.5 for point in _POINTS)
_WEIGHTS = tuple(float(share) / 2 for share in _SHARES)


@dataclasses.dataclass(frozen=True)
class Polynomial(Form):
    """F(s, t) = int_s^t q(u)^2 + delta (1 + Q) du,  q(u) = a u^2 + b u + c,  Q = int_0^1 q^2

    The density is a squared quadratic (Sahoo et al. 2024, sec. 3.2), so that r(t) has degree 5. Squares
    have zeros, at which gamma would stand still: hence the floor, about delta of the whole
    wherever Q is large, 2 delta at the start. Three Gauss-Legendre nodes integrate degree 5 exactly,
    here as a sum of squares times t - s: nothing cancels. Numbers (a, b, c), starting at (0, 0, 1), the
    line.
    """

    def start(self, key):
        del key
        return jnp.array([0.0, 0.0, 1.0])

    def mass(self, values, s, t, width):
        a, b, c = (values[..., k] for k in range(3))

        def mean_square(s, t):
            points = [(1.0 - node) * s + node * t for node in _NODES]
            squares = [jnp.square(c + u * (b + u * a)) for u in points]
            return sum(w * square for w, square in zip(_WEIGHTS, squares, strict=True))

        whole = mean_square(jnp.zeros_like(s), jnp.ones_like(s))
        return width * (mean_square(s, t) + FLOOR * (1.0 + whole))


def pixel_polynomial(
    endpoints: Endpoints,
    shape: Sequence[int],
    sharing: str = "pixel",
    rank: int = 4,
    learned_endpoints: bool = True,
) -> PerPixel:
    """The polynomial per pixel, per channel or of low rank, for images of `shape`."""
    options = (shape, sharing, rank, learned_endpoints)
    return make_per_pixel("pixel_polynomial", endpoints, Polynomial(), *options)


def conditional_polynomial(
    endpoints: Endpoints,
    shape: Sequence[int],
    context_size: int,
    sharing: str = "pixel",
    rank: int = 4,
    num_hidden: int = 64,
    learned_endpoints: bool = True,
) -> PerPixel:
    """The polynomial whose numbers also depend on a context of `context_size` numbers."""
    options = (shape, sharing, rank, learned_endpoints, Conditioner(context_size, num_hidden))
    return make_per_pixel("conditional_polynomial", endpoints, Polynomial(), *options)
