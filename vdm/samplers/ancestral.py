"""Ancestral sampling: z_1 ~ N(0, I), then z_s ~ p(z_s|z_t) step by step, then x ~ p(x|z_0).

A schedule that takes a context gets c ~ p(c), the same for all steps of a sample. This is the model
whose likelihood the bound with T = num_steps bounds (Kingma 2021, sec. 3.3).
"""

import jax
import jax.numpy as jnp

from vdm import diffusion
from vdm.distributions import codes
from vdm.models.base import Model
from vdm.models.diffusion_model import DiffusionModel
from vdm.samplers.base import Trajectory, draw, draw_context, sample_keys
from vdm.schedules.base import alpha_sigma, step_times
from vdm.types import Index, Latents, Params, PRNGKey


def ancestral(
    model: Model,
    params: Params,
    seed: int | jax.Array,
    index: Index,
    num_steps: int,
    num_frames: int = 1,
) -> Trajectory:
    """See `vdm.samplers.base`; one compiled loop, whatever the number of steps."""
    diffuses: DiffusionModel = model.as_diffusion("sampler ancestral")
    keys = sample_keys(seed, index)
    z_1 = draw(keys, 0, diffuses.shape)
    context = draw_context(diffuses, keys)

    def step(done, z):
        return _step(diffuses, params, keys, context, z, num_steps - done, num_steps)

    def frame(z, bounds):
        z = jax.lax.fori_loop(bounds[0], bounds[1], step, z)
        return z, z

    ends = jnp.asarray([round(f * num_steps / num_frames) for f in range(num_frames + 1)])
    z_0, later = jax.lax.scan(frame, z_1, jnp.stack([ends[:-1], ends[1:]], axis=1))
    z = jnp.concatenate([z_1[None], later])
    x_hat = jax.lax.map(
        lambda pair: _x_hat(diffuses, params, context, *pair), (z, 1.0 - ends / num_steps)
    )
    gamma_0, _ = diffuses.end_gammas(params, context)
    # The first key of a sample's stream that no step uses.
    key = jax.vmap(lambda k: jax.random.fold_in(k, num_steps + 1))(keys)
    rescaled = z_0 / alpha_sigma(gamma_0)[0]
    return Trajectory(codes.sample(key, rescaled, gamma_0, diffuses.num_levels), z, x_hat)


def _step(
    model: DiffusionModel, params: Params, keys: PRNGKey, context, z_t: Latents, i, num_steps: int
) -> Latents:
    """A draw of z_s ~ p(z_s|z_t, c) for t = i/T, s = (i - 1)/T."""
    steps = jnp.full((z_t.shape[0],), i)
    gamma_t = model.gamma(params, step_times(steps, num_steps)[0], context)
    increment = model.gamma_increment(params, steps, num_steps, context)
    eps_hat = model.predict_eps(params, z_t, gamma_t, jnp.zeros(len(z_t)), context=context)
    reverse = diffusion.reverse_step(z_t, eps_hat, gamma_t, increment)
    return reverse.sample(draw(keys, i, model.shape))


def _x_hat(model: DiffusionModel, params: Params, context, z: Latents, t) -> Latents:
    gamma = model.gamma(params, jnp.full((z.shape[0],), t), context)
    eps_hat = model.predict_eps(params, z, gamma, jnp.zeros(z.shape[0]), context=context)
    return diffusion.x_from_eps(eps_hat, z, gamma)
