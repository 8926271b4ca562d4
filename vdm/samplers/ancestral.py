"""Ancestral sampling: z_1 ~ N(0, I), then z_s ~ p(z_s|z_t) step by step, then x ~ p(x|z_0).

A schedule that takes a context gets c ~ p(c), the same for all steps of a sample. This is the model
whose likelihood the bound with T = num_steps bounds (Kingma 2021, sec. 3.3).
"""

import dataclasses

import jax.numpy as jnp

from vdm import diffusion
from vdm.samplers.base import StepSampler
from vdm.schedules.base import step_times


@dataclasses.dataclass(frozen=True)
class Ancestral(StepSampler):
    """Every step draws from p(z_s|z_t); no options."""

    name = "ancestral"

    def step(self, model, params, z_t, i, num_steps, known, eps):
        steps = jnp.full((z_t.shape[0],), i)
        gamma_t = model.gamma(params, step_times(steps, num_steps)[0], known.context)
        increment = model.gamma_increment(params, steps, num_steps, known.context)
        eps_hat = model.predict(params, z_t, gamma_t, known)
        return diffusion.reverse_step(z_t, eps_hat, gamma_t, increment).sample(eps)


ancestral = Ancestral()
