"""Ancestral sampling of any family that is a chain of latents: z_T ~ p(z_T), ..., x ~ p(x|z_1).

Such a family is a Markovian hierarchical VAE (Luo 2022, arXiv:2208.11970). The chain is unrolled,
so this is for families of few latents; for a diffusion model with a free T, a sampler with a loop
such as `vdm.samplers.ancestral` draws from the same distribution. No frames are recorded, because the
latents of a family need not have the shape of images.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vdm.models import chain as chains
from vdm.samplers.base import Sampler, Trajectory, draw_context

# Stage of a sample's random stream that draws x ~ p(x|z_1); latent z_t is drawn at stage t = 1 .. T.
_CODES_STAGE = 0


@dataclasses.dataclass(frozen=True)
class LatentChain(Sampler):
    """The sampler that draws every latent from p(z_{t-1}|z_t), and x from the decoder.

    `num_steps` has an effect only where the family's T is free, as for diffusion models.
    """

    name = "chain"

    def trajectory(self, model, params, keys, num_steps, num_frames):
        """Draw one sample per key, see `Sampler.trajectory`; z and x_hat are empty (F = 0)."""
        del num_frames
        # 0 stands for the family's own number of latents.
        steps = 0 if model.timesteps_train is None else num_steps
        factors = model.chain(params, steps, draw_context(model, keys))

        def stage(number: int) -> jax.Array:
            return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

        def draws(t: int) -> jax.Array:
            shape = factors.latent_shape(t)
            return jax.vmap(lambda key: jax.random.normal(key, shape))(stage(t))

        codes: Any = chains.sample(factors, stage(_CODES_STAGE), draws)
        no_frames = jnp.zeros((0, len(keys), *model.shape))
        return Trajectory(codes, no_frames, no_frames)
