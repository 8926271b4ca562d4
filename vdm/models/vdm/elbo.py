"""Negative ELBO of a variational diffusion model, term by term, per image, in nats.

    -log p(x) <= E[-log p(x|z_0)]                                   reconstruction
               + KL(q(z_1|x) || N(0, I))                            prior matching
               + sum_i E KL(q(z_s|z_t,x) || p(z_s|z_t))             denoising matching

(Luo 2022, arXiv:2208.11970, eq. 58; Kingma et al. 2021, arXiv:2107.00630, eq. 11.) Denoising matching
is estimated from one time per image:

    T steps       T/2 expm1(gamma_t - gamma_s) |eps - eps_hat|^2    Kingma 2021, eq. 14; s = t - 1/T
    continuous    1/2 gamma'(t)                |eps - eps_hat|^2    Kingma 2021, eq. 17

With one gamma per dimension each dimension has its own weight; in continuous time the sum is then a
line integral, see `vdm.schedules.per_pixel.base`. With a context c ~ q(c|x) every term is given c, and
the fourth term, auxiliary, is KL(q(c|x) || p(c)).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.nn import sigmoid, softplus

from vdm import diffusion
from vdm.distributions import Draw, codes, value_of
from vdm.errors import ConfigError
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.vdm.contexts import encode_batch
from vdm.models.vdm.noise import Noise, timestep
from vdm.schedules.base import step_times
from vdm.types import (
    Batch,
    Context,
    ElboTerms,
    Gamma,
    Known,
    Latents,
    Params,
    PerExample,
    PRNGKey,
)


def elbo_terms(
    model: DiffusionModel,
    params: Params,
    batch: Batch,
    noise: Noise,
    num_timesteps: int = 0,
    *,
    train: bool = False,
    dropout_key: PRNGKey | None = None,
) -> ElboTerms:
    """Return all terms for every image of a batch, [B] each, nats.

    Args:
      model: a diffusion model.
      params: its parameters.
      batch: integer codes [B,H,W,C] and augmentation flags [B]; padding is evaluated like any image and
        masked by the caller.
      noise: times and Gaussian draws, see `vdm.models.vdm.noise`.
      num_timesteps: T, or 0 for continuous time.
      train: whether dropout is on and a discrete context relaxed.
      dropout_key: key of dropout, consumed when training.
    """
    context = encode_batch(model, params, batch, noise, train=train)
    levels = noise_levels(model, params, noise.times, num_timesteps, context)
    return terms_at(model, params, batch, noise, levels, train=train, dropout_key=dropout_key)


class NoiseLevels(NamedTuple):
    """Noise levels of a batch and their weights: all that the bound takes from the schedule.

    Each gamma is broadcastable to a latent [B,H,W,C].

    Attributes:
      gamma_0: gamma(0), the cleanest.
      gamma_1: gamma(1), the noisiest.
      gamma_t: gamma at the time of each image.
      weight: weight of |eps - eps_hat|^2 there.
      context: c of each image with its KL; None for an unconditional schedule.
    """

    gamma_0: Gamma
    gamma_1: Gamma
    gamma_t: Gamma
    weight: Gamma
    context: Draw | None = None


def noise_levels(
    model: DiffusionModel,
    params: Params,
    times: PerExample,
    num_timesteps: int,
    context: Draw | None = None,
) -> NoiseLevels:
    """Return the noise levels at the images' times.

    Args:
      model: a diffusion model.
      params: its parameters.
      times: uniform times in [0, 1) [B].
      num_timesteps: T, or 0 for continuous time.
      context: c of each image, or None.
    """
    value = value_of(context)
    ends = model.end_gammas(params, value)
    at_times = gamma_and_weight(model, params, times, num_timesteps, value)
    return NoiseLevels(*ends, *at_times, context)


def terms_at(
    model: DiffusionModel,
    params: Params,
    batch: Batch,
    noise: Noise,
    levels: NoiseLevels,
    *,
    train: bool = False,
    dropout_key: PRNGKey | None = None,
) -> ElboTerms:
    """Return the terms of `elbo_terms` at given noise levels.

    Neither the schedule's parameters nor `noise.times` are read, so that a gradient by the levels is
    one through the schedule alone.

    Args:
      model: a diffusion model.
      params: its parameters; those of the schedule are not used.
      batch: integer codes [B,H,W,C] and augmentation flags [B].
      noise: Gaussian draws eps and eps_0 [B,H,W,C], and importance weights of the times [B] or None.
      levels: gammas and weights, from `noise_levels`.
      train: whether dropout is on.
      dropout_key: key of dropout, consumed when training.

    Raises:
      ValueError: images or noise of another shape than the model's.
    """
    if batch.images.shape[1:] != model.shape or noise.eps.shape != batch.images.shape:
        # Without this, one channel would broadcast silently to three.
        raise ValueError(
            f"images {batch.images.shape} and noise {noise.eps.shape}: the model is for {model.shape}"
        )
    x = codes.bin_centres(batch.images, model.num_levels)
    dropout: dict[str, Any] = {"train": train, "dropout_key": dropout_key}
    known = Known(batch.conditioning, context=value_of(levels.context))
    denoising = denoising_matching(model, params, x, known, noise.eps, levels, **dropout)
    return ElboTerms(
        reconstruction=reconstruction(model, batch.images, levels.gamma_0, noise.eps_0),
        prior_matching=prior_matching(x, levels.gamma_1),
        denoising_matching=denoising if noise.importance is None else noise.importance * denoising,
        auxiliary=jnp.zeros(x.shape[0]) if levels.context is None else levels.context.kl,
    )


def reconstruction(model: DiffusionModel, images, gamma_0: Gamma, eps_0: Latents) -> PerExample:
    """Return E_q(z_0|x)[-log p(x|z_0)] [B], nats: exactly, or from the one draw `eps_0`.

    Args:
      model: gives num_levels, and the choice between both in `expected_reconstruction`.
      images: integer codes [B,H,W,C].
      gamma_0: gamma(0), broadcastable to a latent.
      eps_0: noise of z_0 [B,H,W,C]; unused by the exact expectation.
    """
    return _sum(reconstruction_map(model, images, gamma_0, eps_0))


def reconstruction_map(model: DiffusionModel, images, gamma_0: Gamma, eps_0: Latents) -> Latents:
    """Return the summands of `reconstruction` [B,H,W,C], nats; its sum over pixels is that term.

    Args:
      model, images, gamma_0, eps_0: as in `reconstruction`.

    Raises:
      ConfigError: an exact expectation for more than one gamma_0.
    """
    if model.expected_reconstruction:
        if gamma_0.size != 1:
            raise ConfigError(
                f"model.reconstruction='expected': needs one gamma_0, and the schedule gives "
                f"{gamma_0.shape}, for which tables are costly; choose 'sampled', or equal end points"
            )
        surprise = codes.expected_surprise(gamma_0, model.num_levels)
        return surprise[codes.table_row(images, model.num_levels)]
    z_0_rescaled = codes.bin_centres(images, model.num_levels) + jnp.exp(0.5 * gamma_0) * eps_0
    return -codes.log_prob(images, z_0_rescaled, gamma_0, model.num_levels)


def prior_matching(x: Latents, gamma_1: Gamma) -> PerExample:
    """Return KL(q(z_1|x) || N(0, I)) [B], nats.

    It equals 1/2 sum(alpha_1^2 x^2 + sigma_1^2 - 1 - ln sigma_1^2).
    """
    return _sum(prior_matching_map(x, gamma_1))


def prior_matching_map(x: Latents, gamma_1: Gamma) -> Latents:
    """Return the summands of `prior_matching` [B,H,W,C], nats."""
    alpha_squared = sigmoid(-gamma_1)
    # sigma^2 - 1 = -alpha^2 and ln sigma^2 = -softplus(-gamma): no difference of numbers near 1.
    return 0.5 * (alpha_squared * jnp.square(x) - alpha_squared + softplus(-gamma_1))


def denoising_matching(
    model: DiffusionModel,
    params: Params,
    x: Latents,
    known: Known,
    eps: Latents,
    levels: NoiseLevels,
    *,
    train: bool = False,
    dropout_key: PRNGKey | None = None,
) -> PerExample:
    """Estimate the sum or integral over time of KL(q(z_s|z_t,x) || p(z_s|z_t)) [B], nats.

    The estimate takes one time per image and is unbiased for uniform times.

    Args:
      model: a diffusion model.
      params: its parameters.
      x: images in [-1, 1] [B,H,W,C].
      known: augmentation flags [B] and contexts [B,K] that the network may use.
      eps: noise of z_t [B,H,W,C].
      levels: noise levels and weights.
      train: whether dropout is on.
      dropout_key: key of dropout, consumed when training.
    """
    dropout: dict[str, Any] = {"train": train, "dropout_key": dropout_key}
    return _sum(denoising_matching_map(model, params, x, known, eps, levels, **dropout))


def denoising_matching_map(
    model: DiffusionModel,
    params: Params,
    x: Latents,
    known: Known,
    eps: Latents,
    levels: NoiseLevels,
    *,
    train: bool = False,
    dropout_key: PRNGKey | None = None,
) -> Latents:
    """Return the summands of `denoising_matching` [B,H,W,C], nats: weight (eps - eps_hat)^2.

    Args: as in `denoising_matching`.
    """
    z_t = diffusion.diffuse(x, levels.gamma_t, eps)
    eps_hat = model.predict_eps(
        params, z_t, levels.gamma_t, known, train=train, dropout_key=dropout_key
    )
    return levels.weight * jnp.square(eps - eps_hat)


def gamma_and_weight(
    model: DiffusionModel,
    params: Params,
    times: PerExample,
    num_timesteps: int,
    context: Context | None = None,
) -> tuple[Gamma, Gamma]:
    """Return (gamma_t, weight of |eps - eps_hat|^2), each broadcastable to a latent.

    Args:
      model: a diffusion model.
      params: its parameters.
      times: uniform times in [0, 1) [B].
      num_timesteps: T, or 0 for continuous time.
      context: c of each image [B,K], or None.
    """
    if num_timesteps == 0:
        gamma_t, slope = model.gamma_and_derivative(params, times, context)
        return gamma_t, 0.5 * slope
    step = timestep(times, num_timesteps)
    gamma_t = model.gamma(params, step_times(step, num_timesteps)[0], context)
    increment = model.gamma_increment(params, step, num_timesteps, context)
    return gamma_t, 0.5 * num_timesteps * jnp.expm1(increment)


def _sum(per_dim: Latents) -> PerExample:
    """Return the sum over the pixels and channels of each image [B]."""
    return jnp.sum(per_dim, axis=(1, 2, 3))
