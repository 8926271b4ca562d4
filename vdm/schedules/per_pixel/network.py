"""A small monotone network for every dimension, unconditional or conditional on the image."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.schedules.endpoints import Endpoints
from vdm.schedules.per_pixel.base import Conditioner, Form, PerPixel, make_per_pixel

FLOOR = 1e-3
"""Lower limit delta of the slope w1, which could otherwise become 0 and stop gamma."""


@dataclasses.dataclass(frozen=True)
class Sigmoids(Form):
    """F(s, t) = f(t) - f(s),  f(t) = (|w1| + delta) t + mean_k |w3_k| sigmoid(|w2_k| t + b_k)

    The network of `vdm.schedules.monotone_network` with few features, because every dimension has
    its own 1 + 3 K numbers (w1, w2, b, w3). It starts near the line.

    Attributes:
      num_features: K.
    """

    num_features: int = 8

    def start(self, key):
        key_slope, key_centre = jax.random.split(key)
        size = (self.num_features,)
        slope = 10.0 * jnp.exp(0.5 * jax.random.normal(key_slope, size))
        centre = jax.random.uniform(key_centre, size)
        return jnp.concatenate([jnp.ones(1), slope, -slope * centre, jnp.full(size, 1e-2)])

    def mass(self, values, s, t, width):
        w1, rest = jnp.abs(values[..., 0]) + FLOOR, values[..., 1:]
        w2, b, w3 = jnp.split(rest, 3, axis=-1)
        w2, w3 = jnp.abs(w2), jnp.abs(w3)
        s, t, wide = s[..., None], t[..., None], width[..., None]
        # sigmoid(x) - sigmoid(y) = -expm1(y - x) sigmoid(x) sigmoid(-y)
        rise = -jnp.expm1(-w2 * wide)
        rise = rise * jax.nn.sigmoid(w2 * t + b) * jax.nn.sigmoid(-w2 * s - b)
        # The mean as a product: of large arrays, jaxlib 0.10 compiles jnp.mean here to wrong numbers on
        # a CPU. In full float32, which accelerators leave by default.
        weights = jnp.full(self.num_features, 1.0 / self.num_features)
        mean = jnp.dot(w3 * rise, weights, precision=jax.lax.Precision.HIGHEST)
        return w1 * width + mean


def pixel_network(
    endpoints: Endpoints,
    shape: Sequence[int],
    sharing: str = "pixel",
    rank: int = 4,
    num_features: int = 8,
    learned_endpoints: bool = True,
) -> PerPixel:
    """Return the monotone network per pixel, per channel or of low rank.

    Args:
      endpoints: gamma(0) and gamma(1), or where they start.
      shape: (H, W, C) of the images.
      sharing: "pixel", "channel" or "low_rank".
      rank: rank of a low-rank sharing.
      num_features: sigmoids K per dimension.
      learned_endpoints: whether the end points are parameters.
    """
    form = _sigmoids("pixel_network", num_features)
    options = (shape, sharing, rank, learned_endpoints)
    return make_per_pixel("pixel_network", endpoints, form, *options)


def conditional_network(
    endpoints: Endpoints,
    shape: Sequence[int],
    context_size: int,
    sharing: str = "pixel",
    rank: int = 4,
    num_features: int = 8,
    num_hidden: int = 64,
    learned_endpoints: bool = True,
) -> PerPixel:
    """Return the monotone network whose numbers also depend on the context of each image.

    Args:
      endpoints, shape, sharing, rank, num_features, learned_endpoints: as in `pixel_network`.
      context_size: length K of a context.
      num_hidden: hidden features of the network that reads the context.
    """
    form = _sigmoids("conditional_network", num_features)
    options = (shape, sharing, rank, learned_endpoints, Conditioner(context_size, num_hidden))
    return make_per_pixel("conditional_network", endpoints, form, *options)


def _sigmoids(name: str, num_features: int) -> Sigmoids:
    """Return the form, or a ConfigError where it would have no sigmoid."""
    if num_features < 1:
        raise ConfigError(f"schedule.{name}.num_features={num_features}: must be at least 1")
    return Sigmoids(num_features)
