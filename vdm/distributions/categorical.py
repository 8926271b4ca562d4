"""Context of several independent categorical variables."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from vdm.distributions.base import ContextModel, Draw
from vdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class CategoricalContext(ContextModel):
    """c = G one-hot vectors of M classes; q(c|x) = prod softmax(l(x)), p(c) uniform.

        KL = sum_g sum_m q_gm (ln q_gm + ln M),  at most G ln M

    The KL counts every variable. (The KL of a single categorical would be too small for several ones,
    and the result no bound.)

    A hard draw is argmax(l + Gumbel noise). Training relaxes it to softmax((l + noise)/tau) (Jang et
    al. 2016, arXiv:1611.01144): the gradient is that of another objective, closer to the bound's and
    noisier the smaller the temperature tau. The value that training reports is then no bound;
    validation and evaluation draw hard.

    Attributes:
      num_variables: G, number of variables.
      num_classes: M, classes of each.
      temperature: tau of the relaxation.
    """

    num_variables: int
    num_classes: int
    temperature: float

    @property
    def size(self):
        return self.num_variables * self.num_classes

    @property
    def num_statistics(self):
        return self.size

    def draw_noise(self, key):
        return jax.random.gumbel(key, (self.num_variables, self.num_classes))

    def posterior(self, statistics, noise, relaxed):
        statistics = statistics.astype(jnp.float32)
        logits = statistics.reshape(-1, self.num_variables, self.num_classes)
        log_q = jax.nn.log_softmax(logits)
        # log_softmax, not -log M, rounds as log_q does: the KL of equal distributions is exactly 0.
        log_p = jax.nn.log_softmax(jnp.zeros_like(logits))
        kl = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=(1, 2))
        noisy = logits + noise
        value = self._hard(noisy)
        ratio = jnp.sum(value * (log_q - log_p), axis=(1, 2))
        if relaxed:
            value = jax.nn.softmax(noisy / self.temperature)
        return Draw(value.reshape(-1, self.size), kl, ratio)

    def prior(self, noise):
        return self._hard(noise).reshape(-1, self.size)

    def _hard(self, noisy):
        """Return one-hot vectors of the largest entries."""
        return jax.nn.one_hot(jnp.argmax(noisy, axis=-1), self.num_classes)


def categorical(
    num_variables: int = 8, num_classes: int = 2, temperature: float = 0.5
) -> CategoricalContext:
    """Build a context of G variables of M classes each.

    Args:
      num_variables: G.
      num_classes: M.
      temperature: tau of the relaxation.

    Raises:
      ConfigError: a value out of range.
    """
    for name, value, least in (
        ("num_variables", num_variables, 1),
        ("num_classes", num_classes, 2),
    ):
        if value < least:
            raise ConfigError(f"context.categorical.{name}={value}: must be at least {least}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"context.categorical.temperature={temperature}: must be positive")
    return CategoricalContext(num_variables, num_classes, temperature)
