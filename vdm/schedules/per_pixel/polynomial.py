"""A polynomial of degree 5 for every dimension, unconditional or conditional on the image."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from vdm.schedules.endpoints import Endpoints
from vdm.schedules.per_pixel.base import Conditioner, Form, PerPixel, make_per_pixel

FLOOR = 1e-3
"""Share delta of a uniform density: where the quadratic is 0, gamma still increases."""
_POINTS, _SHARES = np.polynomial.legendre.leggauss(3)
_NODES = tuple(float(point) / 2 + 0.5 for point in _POINTS)
_WEIGHTS = tuple(float(share) / 2 for share in _SHARES)


@dataclasses.dataclass(frozen=True)
class Polynomial(Form):
    """F(s, t) = int_s^t q(u)^2 + delta (1 + Q) du,  q(u) = a u^2 + b u + c,  Q = int_0^1 q^2

    The density is a squared quadratic (MuLAN: Sahoo et al. 2023, arXiv:2312.13236, sec. 3.2), so
    that r(t) has degree 5. Squares have zeros, at which gamma would stand still: hence the floor,
    about delta of the whole wherever Q is large, 2 delta at the start. The numbers (a, b, c) start
    at (0, 0, 1), the line.
    """

    def start(self, key):
        """Return (0, 0, 1), a uniform density; `key` is not needed."""
        del key
        return jnp.array([0.0, 0.0, 1.0])

    def mass(self, values, s, t, width):
        """Return F(s, t) by three Gauss-Legendre nodes, which are exact up to degree 5.

        A sum of squares times t - s has no cancellation, unlike the antiderivative.
        """
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
    """Return the polynomial schedule per pixel, per channel or of low rank.

    Args:
      endpoints: gamma(0) and gamma(1), or where they start.
      shape: (H, W, C) of the images.
      sharing: "pixel", "channel" or "low_rank".
      rank: rank of a low-rank sharing.
      learned_endpoints: whether the end points are parameters.
    """
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
    """Return the polynomial schedule whose numbers also depend on the context of each image.

    Args:
      endpoints, shape, sharing, rank, learned_endpoints: as in `pixel_polynomial`.
      context_size: length K of a context.
      num_hidden: hidden features of the network that reads the context.
    """
    options = (shape, sharing, rank, learned_endpoints, Conditioner(context_size, num_hidden))
    return make_per_pixel("conditional_polynomial", endpoints, Polynomial(), *options)
