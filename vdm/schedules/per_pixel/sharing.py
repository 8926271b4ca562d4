"""Sharing of a schedule's numbers among dimensions: one set each, per channel, or low-rank.

P numbers describe one dimension's schedule. `values` gives them for all, [1,H,W,C,P] or
[B,H,W,C,P], with axes of size 1 where pixels are equal. A context shifts the array "weights" by an
array per image.
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
    """A rule by which dimensions share the numbers of their schedules.

    Attributes:
      shape: (H, W, C) of the images.
    """

    shape: tuple[int, int, int]

    @abc.abstractmethod
    def weights_shape(self, num_values: int) -> tuple[int, ...]:
        """Return the shape of the array "weights", which a context shifts."""

    @abc.abstractmethod
    def init(self, key: PRNGKey, start: jax.Array) -> Params:
        """Return parameters, "weights" among them, that give all dimensions `start` [P]."""

    @abc.abstractmethod
    def values(self, params: Params, shift: jax.Array) -> jax.Array:
        """Return the numbers of every dimension [B or 1, H or 1, W or 1, C, P].

        Args:
          params: the parameters, as from `init`.
          shift: shift of the weights, broadcastable to [B, *weights_shape]; zero without a
            context.
        """


class Pixel(Sharing):
    """H W C sets of P numbers, one for every dimension."""

    def weights_shape(self, num_values):
        return (*self.shape, num_values)

    def init(self, key, start):
        del key
        return {"weights": jnp.broadcast_to(start, self.weights_shape(start.size))}

    def values(self, params, shift):
        return params["weights"][None] + shift


class Channel(Sharing):
    """C sets of P numbers, one for all pixels of a channel."""

    def weights_shape(self, num_values):
        return (self.shape[2], num_values)

    def init(self, key, start):
        del key
        return {"weights": jnp.broadcast_to(start, self.weights_shape(start.size))}

    def values(self, params, shift):
        return (params["weights"][None] + shift)[:, None, None]


@dataclasses.dataclass(frozen=True)
class LowRank(Sharing):
    """Numbers base_p + sum_r rows_hr columns_wr weights_crp: (H + W + C P) R + P parameters.

    It grows with H + W instead of H W, so that large images need few parameters.

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
"""Rules of sharing by name; only the last has a rank."""


def make_sharing(prefix: str, name: str, shape: Sequence[int], rank: int) -> Sharing:
    """Return the sharing `name`.

    Args:
      prefix: where the configuration holds the option, for messages.
      name: a key of SHARINGS.
      shape: (H, W, C) of the images.
      rank: R of a low-rank sharing; ignored by the others.

    Raises:
      ConfigError: an unknown name, or a rank outside 1..min(H, W).
    """
    kind = choose(f"{prefix}.sharing", name, SHARINGS, "sharing")
    height, width, channels = (int(size) for size in shape)
    if kind is not LowRank:
        return kind((height, width, channels))
    if not 1 <= rank <= min(height, width):
        raise ConfigError(
            f"{prefix}.rank={rank}: images of {height}x{width} take 1 to {min(height, width)}"
        )
    return LowRank((height, width, channels), rank)
