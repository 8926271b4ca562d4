"""Numbers for every dimension of an image: its own, one set per channel, or a low-rank product.

P numbers describe one dimension's schedule. `values` gives them for all, [1,H,W,C,P] or [B,H,W,C,P];
axes of size 1 stand for equal pixels. A context shifts the array "weights" by one of its own per image.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError, choose
from vdm.types import Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class Sharing(abc.ABC):
    """Attributes:
    shape: (H, W, C) of the images.
    """

    shape: tuple[int, int, int]

    @abc.abstractmethod
    def weights_shape(self, num_values: int) -> tuple[int, ...]:
        """Of the array that a context shifts."""

    @abc.abstractmethod
    def init(self, key: PRNGKey, start: jax.Array) -> Params:
        """Parameters, among them "weights", at which every dimension has the numbers `start` [P]."""

    @abc.abstractmethod
    def values(self, params: Params, shift: jax.Array) -> jax.Array:
        """The numbers of every dimension; `shift` is broadcastable to [B, *weights_shape]."""


class Pixel(Sharing):
    """H W C sets of P numbers."""

    def weights_shape(self, num_values):
        return (*self.shape, num_values)

    def init(self, key, start):
        del key
        return {"weights": jnp.broadcast_to(start, self.weights_shape(start.size))}

    def values(self, params, shift):
        return params["weights"][None] + shift


class Channel(Sharing):
    """C sets of P numbers, the same for all pixels."""

    def weights_shape(self, num_values):
        return (self.shape[2], num_values)

    def init(self, key, start):
        del key
        return {"weights": jnp.broadcast_to(start, self.weights_shape(start.size))}

    def values(self, params, shift):
        return (params["weights"][None] + shift)[:, None, None]


@dataclasses.dataclass(frozen=True)
class LowRank(Sharing):
    """base_p + sum_r rows_hr columns_wr weights_crp: (H + W + C P) R + P numbers.

    Attributes:
      rank: R.
    """

    rank: int

    def weights_shape(self, num_values):
        return (self.shape[2], self.rank, num_values)

    def init(self, key, start):
        draw = lambda k, n: jax.random.normal(k, (n, self.rank)) / math.sqrt(self.rank)  # noqa: E731
        keys = jax.random.split(key)
        # The weights start at 0, so that all dimensions start equal; the random factors part them.
        return {
            "base": start,
            "rows": draw(keys[0], self.shape[0]),
            "columns": draw(keys[1], self.shape[1]),
            "weights": jnp.zeros(self.weights_shape(start.size)),
        }

    def values(self, params, shift):
        places = params["rows"][:, None, :] * params["columns"][None, :, :]
        weights = params["weights"][None] + shift
        return params["base"].reshape(1, 1, 1, 1, -1) + jnp.einsum(
            "hwr,bcrp->bhwcp", places, weights, precision="highest"
        )


SHARINGS = {"pixel": Pixel, "channel": Channel, "low_rank": LowRank}
"""By name; a rank is for the last alone."""


def make_sharing(prefix: str, name: str, shape: Sequence[int], rank: int) -> Sharing:
    """The sharing `name` for images of `shape`; `prefix` is where the configuration holds it."""
    kind = choose(f"{prefix}.sharing", name, SHARINGS, "sharing")
    height, width, channels = (int(size) for size in shape)
    if kind is not LowRank:
        return kind((height, width, channels))
    if not 1 <= rank <= min(height, width):
        raise ConfigError(
            f"{prefix}.rank={rank}: images of {height}x{width} take 1 to {min(height, width)}"
        )
    return LowRank((height, width, channels), rank)
