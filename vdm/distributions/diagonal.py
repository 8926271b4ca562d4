"""Gaussians with a diagonal covariance, over arrays of any shape."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

LOG_2PI = math.log(2.0 * math.pi)


class DiagonalGaussian(NamedTuple):
    """Gaussian with independent entries.

    Attributes:
      mean: [B, ...].
      std: standard deviation, positive, broadcastable to the mean.
    """

    mean: jax.Array
    std: jax.Array

    def sample(self, eps: jax.Array) -> jax.Array:
        """Return the draw mean + std eps; `eps` is standard normal noise of the mean's shape."""
        return self.mean + self.std * eps

    def log_prob(self, z: jax.Array) -> jax.Array:
        """Return the log density of `z`, summed over all axes but the first [B], nats."""
        standardised = (z - self.mean) / self.std
        per_entry = -0.5 * (jnp.square(standardised) + LOG_2PI) - jnp.log(self.std)
        return jnp.sum(per_entry.reshape(len(self.mean), -1), axis=1)
