"""The paper's monotone network: a learned interior between two end points that are exact."""

import dataclasses

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class MonotoneNetwork(Between):
    """gamma(t) = (1 - r) gamma_0 + r gamma_1,  r(t) = (f(t) - f(0)) / (f(1) - f(0))

        f(t) = |w1| t + mean_k |w3_k| sigmoid(|w2_k| t + b_k)

    Three dense layers with non-negative weights and a skip connection (Kingma et al. 2021,
    arXiv:2107.00630, app. H), rescaled so that the end points are two parameters, or constants,
    which the interior cannot move. It starts close to the straight line; the sigmoids start spread
    over [0, 1], each about a tenth wide.

    Attributes:
      endpoints: gamma(0) and gamma(1).
      num_features: sigmoids in the hidden layer.
    """

    num_features: int = 1024

    def __post_init__(self):
        if self.num_features < 1:
            raise ConfigError(
                f"schedule.monotone_network.num_features={self.num_features}: must be at least 1"
            )

    def init_interior(self, key):
        key_slope, key_centre = jax.random.split(key)
        size = (self.num_features,)

        # Every sigmoid has its centre in [0, 1]: one outside would be almost a constant and get
        # hardly any gradient.
        slope = 10.0 * jnp.exp(0.5 * jax.random.normal(key_slope, size))
        centre = jax.random.uniform(key_centre, size)
        # A small third layer, not zero: at zero |w3| has no derivative, and w2 no gradient.
        third = jnp.full(size, 1e-2)
        return {"w1": jnp.ones(()), "w2": slope, "b2": -slope * centre, "w3": third}

    def share(self, interior, t, context=None):
        return rescaled(lambda t: self._network(interior, t), t)

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        width = jnp.ones((1, 1, 1, 1))
        whole = self._rise(interior, 0.0 * width, width, 1.0)
        return self._rise(interior, s, t, 1.0 / num_timesteps), whole

    def _network(self, interior, t):
        """Return f(t) [B,1,1,1]."""
        w1, w2, b2, w3 = _weights(interior)
        return w1 * t + _mean(w3 * jax.nn.sigmoid(w2 * t + b2))

    def _rise(self, interior, s, t, width):
        """Return f(t) - f(s) with t - s = width, without a difference of two close numbers.

        sigmoid(x) - sigmoid(y) = -expm1(y - x) sigmoid(x) sigmoid(-y).
        """
        w1, w2, b2, w3 = _weights(interior)
        rise = -jnp.expm1(-w2 * width)
        rise = rise * jax.nn.sigmoid(w2 * t + b2) * jax.nn.sigmoid(-w2 * s - b2)
        return w1 * width + _mean(w3 * rise)


def _weights(interior):
    """Return (w1, w2, b2, w3) with non-negative w, each [1,1,1,K] or a scalar."""
    w2, b2, w3 = (interior[name][None, None, None, :] for name in ("w2", "b2", "w3"))
    return jnp.abs(interior["w1"]), jnp.abs(w2), b2, jnp.abs(w3)


def _mean(hidden):
    """Return the mean over the hidden features, [B,1,1,K] -> [B,1,1,1]."""
    return jnp.mean(hidden, axis=-1, keepdims=True)


def monotone_network(
    endpoints: Endpoints, num_features: int = 1024, learned_endpoints: bool = True
) -> MonotoneNetwork:
    """Return the monotone network between end points that are learned, or fixed.

    Args:
      endpoints: gamma(0) and gamma(1), or where they start.
      num_features: sigmoids in the hidden layer.
      learned_endpoints: whether the end points are parameters.
    """
    return MonotoneNetwork(dataclasses.replace(endpoints, learned=learned_endpoints), num_features)
