"""Ancestral sampling: z_1 ~ N(0, I), then z_s ~ p(z_s|z_t) step by step, then x ~ p(x|z_0).

This is the generative model whose -log p(x) the bound with T = num_steps bounds (Kingma et al. 2021,
arXiv:2107.00630, sec. 3.3; Ho et al. 2020, arXiv:2006.11239, alg. 2, draws the same way). A schedule
that takes a context gets one c ~ p(c) per sample, the same for all of its steps.
"""

import dataclasses

import jax.numpy as jnp

from vdm import diffusion
from vdm.samplers.base import StepSampler
from vdm.schedules.base import step_times


@dataclasses.dataclass(frozen=True)
class Ancestral(StepSampler):
    """The sampler that draws z_s ~ p(z_s|z_t) in every step, s = (i - 1)/T; it has no options."""

    name = "ancestral"

    def step(self, model, params, z_t, i, num_steps, known, eps):
        """Return mean + std eps of p(z_s|z_t), see `StepSampler.step`."""
        steps = jnp.full((z_t.shape[0],), i)
        gamma_t = model.gamma(params, step_times(steps, num_steps)[0], known.context)
        # The schedule's exact increment: the difference of two float32 gammas is too coarse at large T.
        increment = model.gamma_increment(params, steps, num_steps, known.context)
        eps_hat = model.predict(params, z_t, gamma_t, known)
        return diffusion.reverse_step(z_t, eps_hat, gamma_t, increment).sample(eps)


ancestral = Ancestral()
