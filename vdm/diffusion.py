"""Gaussian algebra of the forward and reverse process, without networks or schedules.

With alpha, sigma from gamma (see `vdm.schedules.base`), for times s < t (Kingma et al. 2021,
arXiv:2107.00630):

    (1)  q(z_t|x)      = N(alpha_t x, sigma_t^2)                                 eq. 1
    (2)  q(z_t|z_s)    = N(alpha_t/alpha_s z_s, sigma_{t|s}^2)                   app. A.1
         sigma_{t|s}^2 = -expm1(softplus(gamma_s) - softplus(gamma_t))
    (3)  q(z_s|z_t,x)  = N((1-c) alpha_s/alpha_t z_t + c alpha_s x, c sigma_s^2) app. A.2
         c             = -expm1(gamma_s - gamma_t)
    (4)  p(z_s|z_t)    = q(z_s|z_t, x = x_hat(z_t))                              sec. 3.3

and one prediction written four ways (Luo 2022, arXiv:2208.11970; v: Salimans & Ho 2022,
arXiv:2202.00512):

    (5)  x = (z - sigma eps) / alpha,  v = alpha eps - sigma x,  score = -eps / sigma
"""

import jax
import jax.numpy as jnp

from vdm.distributions.diagonal import DiagonalGaussian
from vdm.errors import choose
from vdm.schedules.base import alpha_sigma, sigma_squared
from vdm.types import Gamma, Latents


def forward_marginal(x: Latents, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_t|x), equation (1)."""
    alpha, _ = alpha_sigma(gamma_t)
    return DiagonalGaussian(alpha * x, jnp.sqrt(sigma_squared(gamma_t)))


def diffuse(x: Latents, gamma_t: Gamma, eps: Latents) -> Latents:
    """Return z_t = alpha_t x + sigma_t eps [B,H,W,C], a draw from (1)."""
    alpha, sigma = alpha_sigma(gamma_t)
    return alpha * x + sigma * eps


def forward_step(z_s: Latents, gamma_s: Gamma, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_t|z_s) for s < t, equation (2)."""
    ratio = jnp.exp(0.5 * (jax.nn.softplus(gamma_s) - jax.nn.softplus(gamma_t)))
    variance = -jnp.expm1(jax.nn.softplus(gamma_s) - jax.nn.softplus(gamma_t))
    return DiagonalGaussian(ratio * z_s, jnp.sqrt(variance))


def posterior(z_t: Latents, x: Latents, gamma_s: Gamma, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_s|z_t, x) for s < t, equation (3)."""
    alpha_s, _ = alpha_sigma(gamma_s)
    alpha_t, _ = alpha_sigma(gamma_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    # As 1 - c the factor would have no digits left in float32 after a long step, where alpha_s/alpha_t
    # is large.
    mean = jnp.exp(gamma_s - gamma_t) * (alpha_s / alpha_t) * z_t + c * alpha_s * x
    return DiagonalGaussian(mean, jnp.sqrt(c * sigma_squared(gamma_s)))


def reverse_step(
    z_t: Latents, eps_hat: Latents, gamma_t: Gamma, increment: Gamma
) -> DiagonalGaussian:
    """Return p(z_s|z_t) for s < t, equation (4), from the predicted noise.

    It equals `posterior` at x_hat, written without dividing by a small alpha twice:
    mean = alpha_s/alpha_t (z_t - c sigma_t eps_hat). The increment is an argument, because the
    difference of two rounded gammas is wrong by 1e-3 of a step at T = 10^4, and so would be c.

    Args:
      z_t: latents [B,H,W,C].
      eps_hat: predicted noise [B,H,W,C].
      gamma_t: noise level of z_t, broadcastable to it.
      increment: gamma_t - gamma_s, broadcastable to z_t.
    """
    gamma_s = gamma_t - increment
    alpha_s, _ = alpha_sigma(gamma_s)
    alpha_t, sigma_t = alpha_sigma(gamma_t)
    c = -jnp.expm1(-increment)
    mean = (alpha_s / alpha_t) * (z_t - c * sigma_t * eps_hat)
    return DiagonalGaussian(mean, jnp.sqrt(c * sigma_squared(gamma_s)))


def x_from_eps(eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return x = (z - sigma eps) / alpha, equation (5)."""
    alpha, sigma = alpha_sigma(gamma)
    return (z - sigma * eps) / alpha


def eps_from_x(x: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return eps = (z - alpha x) / sigma."""
    alpha, sigma = alpha_sigma(gamma)
    return (z - alpha * x) / sigma


def eps_from_v(v: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return eps = alpha v + sigma z."""
    alpha, sigma = alpha_sigma(gamma)
    return alpha * v + sigma * z


def v_from_eps(eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return v = alpha eps - sigma x = (eps - sigma z) / alpha, equation (5)."""
    alpha, sigma = alpha_sigma(gamma)
    return (eps - sigma * z) / alpha


def eps_from_score(score: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return eps = -sigma score."""
    del z
    return -alpha_sigma(gamma)[1] * score


def score_from_eps(eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return the score, grad log q(z_t|x) = -eps / sigma, equation (5)."""
    del z
    return -eps / alpha_sigma(gamma)[1]


def _same(prediction: Latents, z: Latents, gamma: Gamma) -> Latents:
    del z, gamma
    return prediction


TO_EPS = {"eps": _same, "x": eps_from_x, "v": eps_from_v, "score": eps_from_score}
FROM_EPS = {"eps": _same, "x": x_from_eps, "v": v_from_eps, "score": score_from_eps}


def to_eps(parameterisation: str, prediction: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return eps_hat from a prediction of "eps", "x", "v" or "score" [B,H,W,C].

    Raises:
      ConfigError: an unknown parameterisation.
    """
    convert = choose("model.parameterisation", parameterisation, TO_EPS, "parameterisation")
    return convert(prediction, z, gamma)


def from_eps(parameterisation: str, eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return the prediction that `to_eps` converts to `eps`: its inverse."""
    convert = choose("model.parameterisation", parameterisation, FROM_EPS, "parameterisation")
    return convert(eps, z, gamma)
