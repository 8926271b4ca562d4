"""Context of independent Gaussian numbers."""

import dataclasses

import jax
import jax.numpy as jnp

from vdm.distributions.base import ContextModel, Draw
from vdm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class GaussianContext(ContextModel):
    """q(c|x) = N(m(x), exp(2 s(x))), p(c) = N(0, I),  KL = 1/2 sum(m^2 + expm1(2 s) - 2 s).

    Gradients pass through c = m + exp(s) e without bias; nothing is relaxed.

    Attributes:
      num_features: K, the number of entries of c.
    """

    num_features: int

    @property
    def size(self):
        return self.num_features

    @property
    def num_statistics(self):
        return 2 * self.num_features

    def draw_noise(self, key):
        return jax.random.normal(key, (self.num_features,))

    def posterior(self, statistics, noise, relaxed):
        del relaxed
        mean, log_scale = jnp.split(statistics.astype(jnp.float32), 2, axis=-1)
        value = mean + jnp.exp(log_scale) * noise
        kl = 0.5 * jnp.sum(jnp.square(mean) + jnp.expm1(2.0 * log_scale) - 2.0 * log_scale, -1)
        ratio = jnp.sum(0.5 * (jnp.square(value) - jnp.square(noise)) - log_scale, -1)
        return Draw(value, kl, ratio)

    def prior(self, noise):
        return noise


def gaussian(num_features: int = 8) -> GaussianContext:
    """Build a context of K independent numbers, standard normal under p(c).

    Raises:
      ConfigError: K < 1.
    """
    if num_features < 1:
        raise ConfigError(f"context.gaussian.num_features={num_features}: must be at least 1")
    return GaussianContext(num_features)
