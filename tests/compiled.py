"""Functions of schedules and models as compiled programs, one per schedule and length of `t`.

Called operation by operation, JAX compiles every operation for every shape, which takes longer than
everything that such a test computes.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vdm.models.vdm import noise as _noise
from vdm.schedules.base import gamma_and_derivative as _gamma_and_derivative

gamma = jax.jit(lambda s, params, t, context=None: s.gamma(params, t, context), static_argnums=0)
gamma_and_derivative = jax.jit(_gamma_and_derivative, static_argnums=0)
gamma_increment = jax.jit(
    lambda s, params, step, num_timesteps, context=None: s.gamma_increment(
        params, step, num_timesteps, context
    ),
    static_argnums=(0, 3),
)
_init = jax.jit(lambda s, key: s.init(key), static_argnums=0)


training_noise = jax.jit(_noise.training_noise, static_argnums=(1, 2, 3))


def init(schedule_or_model):
    """Return fresh parameters."""
    # This generator compiles in a third of the default's time.
    return _init(schedule_or_model, jax.random.key(0, impl="unsafe_rbg"))


def shaken(tree, scale, seed=0):
    """Return the parameters with Gaussian noise of standard deviation `scale` added to each."""
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda v: jnp.asarray(v + np.float32(scale * draw(v.shape))), tree)
