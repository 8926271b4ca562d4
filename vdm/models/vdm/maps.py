"""Terms of a VDM before their sums over dimensions, and with noise that other models share."""

import jax.numpy as jnp

from vdm.distributions import codes, value_of
from vdm.errors import ConfigError
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.records import TermMaps, TermsFn
from vdm.models.vdm.contexts import encode_batch
from vdm.models.vdm.elbo import (
    NoiseLevels,
    denoising_matching_map,
    noise_levels,
    prior_matching_map,
    reconstruction_map,
    terms_at,
)
from vdm.models.vdm.noise import Noise
from vdm.schedules.base import per_example
from vdm.types import Batch, Known, Params


def term_maps(model: DiffusionModel, params: Params, batch: Batch, noise: Noise) -> TermMaps:
    """Return the terms of `vdm.models.vdm.elbo.elbo_terms` before their sums over dimensions.

    Args:
      model: a diffusion model, whose objective gives T.
      params: its parameters.
      batch: integer codes [B,H,W,C] and augmentation flags [B].
      noise: times and Gaussian draws.
    """
    context = encode_batch(model, params, batch, noise)
    num_timesteps = model.objective.num_timesteps
    levels = noise_levels(model, params, noise.times, num_timesteps, context)
    x = codes.bin_centres(batch.images, model.num_levels)
    known = Known(batch.conditioning, context=value_of(context))
    return TermMaps(
        reconstruction_map(model, batch.images, levels.gamma_0, noise.eps_0),
        prior_matching_map(x, levels.gamma_1),
        denoising_matching_map(model, params, x, known, noise.eps, levels),
        jnp.zeros(x.shape[0]) if context is None else context.kl,
        jnp.mean(jnp.broadcast_to(levels.gamma_t, x.shape), axis=(1, 2, 3)),
    )


def paired_terms(model: DiffusionModel, gammas: tuple[float, float]) -> TermsFn:
    """Return the terms in continuous time, with times uniform in gamma over a range of several models.

    Two models then see the same noise at the same gamma, and the difference of their bounds has a
    small variance.

    Args:
      model: a diffusion model with one gamma per time.
      gammas: (low, high) of the range, which contains the model's own.

    Raises:
      ConfigError: the model has a gamma per pixel or per image.
    """
    if not model.has_scalar_gamma:
        raise ConfigError(
            f"schedule {type(model.schedule).__name__}: runs are paired in continuous time at equal "
            "gamma, and this one has a gamma per pixel or per image; choose timesteps=T, where "
            "they share steps, or compare means over training seeds"
        )
    low, high = gammas

    def terms(params, batch, noise):
        gamma_0, gamma_1 = model.end_gammas(params)
        gamma = low + per_example(noise.times) * (high - low)
        inside = (gamma >= gamma_0) & (gamma <= gamma_1)
        weight = jnp.where(inside, 0.5 * (high - low), 0.0)
        # Outside its range a network may answer anything; the weight is 0 there.
        gamma = jnp.clip(gamma, gamma_0, gamma_1)
        return terms_at(model, params, batch, noise, NoiseLevels(gamma_0, gamma_1, gamma, weight))

    return terms
