"""Gaussian algebra of the forward and reverse process, without networks or schedules.

With alpha, sigma from gamma = -log SNR (see `vdm.schedules.base`), for times s < t:

    (1)  q(z_t|x)      = N(alpha_t x, sigma_t^2)
    (2)  q(z_t|z_s)    = N(alpha_t/alpha_s z_s, sigma_{t|s}^2)
         sigma_{t|s}^2 = -expm1(softplus(gamma_s) - softplus(gamma_t))
    (3)  q(z_s|z_t,x)  = N((1-c) alpha_s/alpha_t z_t + c alpha_s x, c sigma_s^2)
         c             = -expm1(gamma_s - gamma_t)
    (4)  p(z_s|z_t)    = q(z_s|z_t, x = x_hat(z_t))

and one prediction written four ways:

    (5)  x = (z - sigma eps) / alpha,  v = alpha eps - sigma x,  score = -eps / sigma

Sources: Kingma et al. 2021 (arXiv:2107.00630), eq. 1 for (1), app. A.1 for (2), app. A.2 for (3),
sec. 3.3 for (4); Luo 2022 (arXiv:2208.11970), "Three equivalent interpretations", for x, eps and
score in (5); Salimans & Ho 2022 (arXiv:2202.00512) for v.

Everything is elementwise: latents are [B,H,W,C], and a gamma may be [B,1,1,1] (scalar schedule) or
[B,H,W,C] (one per pixel). The exponentials are written with expm1 and softplus, because differences
such as 1 - SNR_t/SNR_s vanish in float32 for the small steps of a large T.
"""

import jax
import jax.numpy as jnp

from vdm.distributions.diagonal import DiagonalGaussian
from vdm.errors import choose
from vdm.schedules.base import alpha_sigma, sigma_squared
from vdm.types import Gamma, Latents


def forward_marginal(x: Latents, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_t|x) = N(alpha_t x, sigma_t^2), equation (1)."""
    alpha, _ = alpha_sigma(gamma_t)
    return DiagonalGaussian(alpha * x, jnp.sqrt(sigma_squared(gamma_t)))


def diffuse(x: Latents, gamma_t: Gamma, eps: Latents) -> Latents:
    """Return z_t = alpha_t x + sigma_t eps [B,H,W,C], the draw from (1) that eps ~ N(0, I) gives."""
    alpha, sigma = alpha_sigma(gamma_t)
    return alpha * x + sigma * eps


def forward_step(z_s: Latents, gamma_s: Gamma, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_t|z_s) for s < t, equation (2)."""
    # alpha^2 = exp(-softplus(gamma)), so that alpha_t/alpha_s is one exponential of a difference.
    ratio = jnp.exp(0.5 * (jax.nn.softplus(gamma_s) - jax.nn.softplus(gamma_t)))
    variance = -jnp.expm1(jax.nn.softplus(gamma_s) - jax.nn.softplus(gamma_t))
    return DiagonalGaussian(ratio * z_s, jnp.sqrt(variance))


def posterior(z_t: Latents, x: Latents, gamma_s: Gamma, gamma_t: Gamma) -> DiagonalGaussian:
    """Return q(z_s|z_t, x) for s < t, equation (3).

    Args:
      z_t: the latent at the later, noisier time [B,H,W,C].
      x: the clean image, or a prediction of it, which gives p(z_s|z_t) [B,H,W,C].
      gamma_s: at the earlier time; less than gamma_t.
      gamma_t: at the later time.
    """
    alpha_s, _ = alpha_sigma(gamma_s)
    alpha_t, _ = alpha_sigma(gamma_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    # exp(gamma_s - gamma_t), not 1 - c: after a long step, where alpha_s/alpha_t is large, the
    # subtraction would leave no correct digit in float32.
    mean = jnp.exp(gamma_s - gamma_t) * (alpha_s / alpha_t) * z_t + c * alpha_s * x
    return DiagonalGaussian(mean, jnp.sqrt(c * sigma_squared(gamma_s)))


def reverse_step(
    z_t: Latents, eps_hat: Latents, gamma_t: Gamma, increment: Gamma
) -> DiagonalGaussian:
    """Return p(z_s|z_t) for s < t, equation (4), from the predicted noise.

    Equal to `posterior` at x_hat, but written so that nothing is divided by a small alpha twice:
    mean = alpha_s/alpha_t (z_t - c sigma_t eps_hat).

    Args:
      z_t: the latent [B,H,W,C].
      eps_hat: the network's prediction of the noise in z_t [B,H,W,C].
      gamma_t: at time t.
      increment: gamma_t - gamma_s > 0, from `Schedule.gamma_increment`. It is an argument because the
        difference of two rounded gammas is wrong by 1e-3 of a step at T = 10^4, and c would inherit
        that error.
    """
    gamma_s = gamma_t - increment
    alpha_s, _ = alpha_sigma(gamma_s)
    alpha_t, sigma_t = alpha_sigma(gamma_t)
    c = -jnp.expm1(-increment)
    mean = (alpha_s / alpha_t) * (z_t - c * sigma_t * eps_hat)
    return DiagonalGaussian(mean, jnp.sqrt(c * sigma_squared(gamma_s)))


def x_from_eps(eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return x = (z - sigma eps) / alpha, equation (5); errors of eps grow by sigma/alpha."""
    alpha, sigma = alpha_sigma(gamma)
    return (z - sigma * eps) / alpha


def eps_from_x(x: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return eps = (z - alpha x) / sigma; errors of x grow by alpha/sigma."""
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
    """Return eps = -sigma score; z is unused, and there for the common signature of `TO_EPS`."""
    del z
    return -alpha_sigma(gamma)[1] * score


def score_from_eps(eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Return the score, grad_z log q(z_t) = -eps / sigma, equation (5)."""
    del z
    return -eps / alpha_sigma(gamma)[1]


def _unchanged(prediction: Latents, z: Latents, gamma: Gamma) -> Latents:
    del z, gamma
    return prediction


TO_EPS = {"eps": _unchanged, "x": eps_from_x, "v": eps_from_v, "score": eps_from_score}
"""{parameterisation: (prediction, z, gamma) -> eps}."""
FROM_EPS = {"eps": _unchanged, "x": x_from_eps, "v": v_from_eps, "score": score_from_eps}
"""{parameterisation: (eps, z, gamma) -> prediction}, the inverses of `TO_EPS`."""


def to_eps(parameterisation: str, prediction: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Convert a network's prediction to eps_hat [B,H,W,C].

    Args:
      parameterisation: what the network predicts: "eps", "x", "v" or "score".
      prediction: the network's output [B,H,W,C].
      z: the latent that it saw [B,H,W,C].
      gamma: the noise level of z.

    Raises:
      ConfigError: no such parameterisation.
    """
    convert = choose("model.parameterisation", parameterisation, TO_EPS, "parameterisation")
    return convert(prediction, z, gamma)


def from_eps(parameterisation: str, eps: Latents, z: Latents, gamma: Gamma) -> Latents:
    """Convert eps [B,H,W,C] to the quantity that a network predicts; the inverse of `to_eps`.

    Args:
      parameterisation: "eps", "x", "v" or "score".
      eps: the noise in z, true or predicted [B,H,W,C].
      z: the latent [B,H,W,C].
      gamma: the noise level of z.

    Raises:
      ConfigError: no such parameterisation.
    """
    convert = choose("model.parameterisation", parameterisation, FROM_EPS, "parameterisation")
    return convert(eps, z, gamma)
