"""Ancestral sampling of any family that is a chain of latents: z_T ~ p(z_T), ..., x ~ p(x|z_1).

All levels are written out, so this is for families of a few levels; where the number of steps is free,
a sampler with a loop, such as `vdm.samplers.ancestral`, draws from the same model. There are no frames:
a family's latents need not look like images.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vdm.models import chain as chains
from vdm.samplers.base import Sampler, Trajectory, draw_context

_CODES_STAGE = 0  # the levels' own are 1 .. T


@dataclasses.dataclass(frozen=True)
class LatentChain(Sampler):
    """Every level draws from p(z_{t-1}|z_t); `num_steps` counts only where a family's T is free."""

    name = "chain"

    def trajectory(self, model, params, keys, num_steps, num_frames):
        """See `Sampler.trajectory`."""
        del num_frames
        steps = 0 if model.timesteps_train is None else num_steps
        factors = model.chain(params, steps, draw_context(model, keys))

        def stage(number: int) -> jax.Array:
            return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

        def draws(level: int) -> jax.Array:
            shape = factors.latent_shape(level)
            return jax.vmap(lambda key: jax.random.normal(key, shape))(stage(level))

        codes: Any = chains.sample(factors, stage(_CODES_STAGE), draws)
        nothing = jnp.zeros((0, len(keys), *model.shape))
        return Trajectory(codes, nothing, nothing)
