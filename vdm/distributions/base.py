"""Contract of a context: q(c|x), p(c), and the KL between them.

    -log p(x) <= E_q(c|x)[bound of x given c] + KL(q(c|x) || p(c))

The encoder turns an image into statistics [B,S], which determine q(c|x). p(c) has no parameters, at no
loss of generality: the schedule and the denoiser that read c can transform it.
"""

import abc
import dataclasses

import flax.struct
import jax

from vdm.types import Context, PerExample, PRNGKey


@flax.struct.dataclass
class Draw:
    """A context per image, with its cost in the bound.

    Attributes:
      value: c [B,K].
      kl: KL(q(c|x) || p(c)), exact, nats [B].
      log_ratio: log q(c|x) - log p(c) at this c [B], nats, with mean KL; for a relaxed c, at the hard
        c from the same noise.
    """

    value: Context
    kl: PerExample
    log_ratio: PerExample


def value_of(drawn: Draw | None) -> Context | None:
    """Return c, or None for a model without a context."""
    return None if drawn is None else drawn.value


@dataclasses.dataclass(frozen=True)
class ContextModel(abc.ABC):
    """Distributions q(c|x) and p(c) of a context."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """K, the number of entries of a context."""

    @property
    @abc.abstractmethod
    def num_statistics(self) -> int:
        """S, the number of statistics from the encoder; for all 0, q(c|x) = p(c)."""

    @abc.abstractmethod
    def draw_noise(self, key: PRNGKey) -> jax.Array:
        """Draw the noise of one image's context; `key` is consumed."""

    @abc.abstractmethod
    def posterior(self, statistics: jax.Array, noise: jax.Array, relaxed: bool) -> Draw:
        """Draw c ~ q(c|x).

        Args:
          statistics: statistics from the encoder [B,S].
          noise: draws of `draw_noise` [B,...].
          relaxed: whether to replace a discrete c by a differentiable relaxation, for training alone.
        """

    @abc.abstractmethod
    def prior(self, noise: jax.Array) -> Context:
        """Return c ~ p(c) from draws of `draw_noise` [B,...]."""
