"""The contract of a context: q(c|x), p(c), and the price of c.

    -log p(x) <= E_q(c|x)[bound of x given c] + KL(q(c|x) || p(c))

The encoder turns an image into statistics [B,S]; everything else follows from them. p(c) is fixed: the
schedule and the denoiser that read c can bend it into what they like.
"""

import abc
import dataclasses

import flax.struct
import jax

from vdm.types import Context, PerExample, PRNGKey


@flax.struct.dataclass
class Draw:
    """One context per image.

    Attributes:
      value: c [B,K].
      kl: KL(q(c|x) || p(c)), exact, nats [B].
      log_ratio: log q(c|x) - log p(c) at this c, whose mean is the KL [B]; of a relaxed c, at the hard
        one beneath it.
    """

    value: Context
    kl: PerExample
    log_ratio: PerExample


def value_of(drawn: Draw | None) -> Context | None:
    """c, or None for a model without a context."""
    return None if drawn is None else drawn.value


@dataclasses.dataclass(frozen=True)
class ContextModel(abc.ABC):
    """A family of distributions of c."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """K, numbers in a context."""

    @property
    @abc.abstractmethod
    def num_statistics(self) -> int:
        """S, numbers that the encoder gives; all zero where q(c|x) = p(c)."""

    @abc.abstractmethod
    def draw_noise(self, key: PRNGKey) -> jax.Array:
        """What one draw consumes, for one image."""

    @abc.abstractmethod
    def posterior(self, statistics: jax.Array, noise: jax.Array, relaxed: bool) -> Draw:
        """c ~ q(c|x) from statistics [B,S] and noise [B,...].

        `relaxed`: a differentiable stand-in for c where c is discrete, for training alone.
        """

    @abc.abstractmethod
    def prior(self, noise: jax.Array) -> Context:
        """c ~ p(c) from noise [B,...]."""
