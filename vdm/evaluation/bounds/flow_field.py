"""The velocity of the probability-flow ODE and its divergence, for one image.

Song et al. 2021 (arXiv:2011.13456), app. D; the trace of the Jacobian by one random probe as in FFJORD
(Grathwohl et al. 2018, arXiv:1810.01367). With gamma as the time of the ODE, for a scalar schedule:

    (1)  dz/dgamma = sigma/2 (eps_hat(z, gamma) - sigma z)
    (2)  div = sigma/2 (tr d eps_hat/dz - sigma D)

With one gamma per pixel, or one that depends on the image, t itself is the time of the ODE, and
dimension i has the factor gamma_i'(t):

    (3)  dz_i/dt = gamma_i'/2 sigma_i (eps_hat_i - sigma_i z_i)
    (4)  div = sum_i gamma_i'/2 sigma_i (d eps_hat_i/dz_i - sigma_i)
"""

from typing import Any

import jax
import jax.numpy as jnp

from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import alpha_sigma
from vdm.types import Known, Latents, Params

TRACES = ("rademacher", "gaussian", "exact")
"""Estimators of the trace of the Jacobian d eps_hat/dz."""


def gamma_with_slope(model: DiffusionModel, params: Params, context):
    """Return the function t -> (gamma, dgamma/dt) of one image, each broadcastable to [H,W,C]."""
    batched_context = None if context is None else context[None]

    def gamma_and_slope(t):
        pair = model.gamma_and_derivative(params, t.reshape(1), batched_context)
        return tuple(value[0] for value in pair)

    return gamma_and_slope


def make_field(
    model: DiffusionModel,
    params: Params,
    probe: Latents,
    flag,
    trace: str,
    gamma_and_slope=None,
    context=None,
):
    """Return the right-hand side (time, (z, integral), args) -> (dz, divergence) for one image.

    (1) and (2) over gamma; with `gamma_and_slope`, (3) and (4) over t.

    Args:
      model, params: the diffusion model.
      probe: random vector for the trace [H,W,C].
      flag: conditioning of the network, a scalar.
      trace: an element of `TRACES`.
      gamma_and_slope: t -> (gamma, dgamma/dt); None for gamma as the time.
      context: c of the image [K]; None without one.
    """

    def field(time, state, args: Any):
        del args
        z = state[0]
        gamma, slope = (time, None) if gamma_and_slope is None else gamma_and_slope(time)
        _, sigma = alpha_sigma(gamma)

        def eps_hat(z):
            wide = jnp.reshape(gamma, (1, 1, 1, 1)) if gamma_and_slope is None else gamma[None]
            known = Known(flag[None], context=None if context is None else context[None])
            return model.predict_eps(params, z[None], wide, known)[0]

        eps, diagonal = _diagonal(eps_hat, z, probe, trace)
        # With one gamma for all dimensions the divergence needs the sum of the diagonal only.
        if slope is None:
            rate = 0.5 * sigma
            return rate * (eps - sigma * z), rate * (jnp.sum(diagonal) - sigma * z.size)
        rates = jnp.broadcast_to(0.5 * slope * sigma, z.shape)
        return rates * (eps - sigma * z), jnp.sum(rates * (diagonal - sigma))

    return field


def _diagonal(function, z, probe, trace: str):
    """Return (f(z), the diagonal of df/dz or an unbiased estimate of it), each [H,W,C].

    Args:
      function: f, latents [H,W,C] -> latents [H,W,C].
      z: where it is evaluated [H,W,C].
      probe: random vector v with E[v v^T] = I, for the estimate v * (df/dz v) (Hutchinson) [H,W,C].
      trace: "exact", or anything else for the estimate.
    """
    if trace == "exact":
        value, derivative = jax.linearize(function, z)
        basis = jnp.eye(z.size).reshape(z.size, *z.shape)
        return value, jnp.sum(jax.vmap(derivative)(basis) * basis, axis=0)
    value, product = jax.jvp(function, (z,), (probe,))
    return value, probe * product
