"""The noise levels of the grid t = i/T, i = 1 .. T, along which bounds of T steps are evaluated.

With gamma = -log SNR, a step from s = (i - 1)/T to t = i/T has the increment d = gamma_t - gamma_s, and
c = -expm1(-d) = 1 - SNR_t/SNR_s is the fraction of noise that it renews, see (1) of
`vdm.evaluation.bounds.trajectories`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import step_times
from vdm.types import Params


class GridNoiseLevels(NamedTuple):
    """The noise levels at steps of the grid t = i/T, each broadcastable to [B,n,K,H,W,C].

    Attributes:
      gamma: gamma_t at the end of each step.
      increment: d = gamma_t - gamma_s, the schedule's exact one.
      c_before: c' = -expm1(-d') of the step before; 1 for the first step.
    """

    gamma: jax.Array
    increment: jax.Array
    c_before: jax.Array


def grid_noise_levels(
    model: DiffusionModel, params: Params, steps, num_timesteps: int, context
) -> GridNoiseLevels:
    """Return the noise levels at `steps` [n].

    Args:
      model, params: the diffusion model.
      steps: numbers of the steps in 1 .. T [n]; those beyond T get the values of T.
      num_timesteps: T.
      context: c of each image and trajectory [B,K,...]; None for a schedule without, whose noise
        levels then have axes of size 1 for B and K.
    """
    if context is None:
        values = _of_one_trajectory(model, params, steps, num_timesteps, None)
        return GridNoiseLevels(*(value[None, :, None] for value in values))

    def of_one(c):
        # A schedule takes a context per time; here one has all n times.
        shared = jnp.broadcast_to(c[None], (len(steps), len(c)))
        return _of_one_trajectory(model, params, steps, num_timesteps, shared)

    return jax.vmap(jax.vmap(of_one, out_axes=1))(context)


def _of_one_trajectory(
    model: DiffusionModel, params: Params, steps, num_timesteps: int, context
) -> GridNoiseLevels:
    """Return the noise levels at steps [n] of one image and trajectory, each [n,...]."""
    steps = jnp.minimum(steps, num_timesteps)
    before = model.gamma_increment(params, jnp.maximum(steps - 1, 1), num_timesteps, context)
    first = (steps == 1)[:, None, None, None]
    return GridNoiseLevels(
        model.gamma(params, step_times(steps, num_timesteps)[0], context),
        model.gamma_increment(params, steps, num_timesteps, context),
        jnp.where(first, 1.0, -jnp.expm1(-before)),  # q(z_0|x) takes the place of a step's q
    )
