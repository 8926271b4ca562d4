"""Gradient of a bound through its noise levels, with which a schedule's interior lowers its variance.

In continuous time the bound of a scalar schedule does not depend on the interior (branch "shape" of the
parameters), and its gradient there is noise around 0; the interior then minimises the *variance* of the
estimate (Kingma et al. 2021, arXiv:2107.00630, app. I.2):

    L(t, eps) = 1/2 gamma'(t) |eps - eps_hat(z_t)|^2,   Var L = E[L^2] - (E L)^2,
    d Var L = d E[L^2] = E[2 (L - b) dL]                for any b independent of t and eps,

because E L does not depend on the interior, so that E[b dL] = 0. One backward pass of the network gives
dL/dgamma(t) and dL/dgamma'(t) of every image (equal to L/gamma'); both are scaled by 2 (L - b), b the
mean of L over the batch, and pulled back through (gamma, gamma') into the interior. Both are needed:
with gamma(t) alone the gradient points the other way.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vdm.models import microbatches
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.means import Metrics, mean_bits_per_dim
from vdm.models.microbatches import GradientFn
from vdm.models.vdm.elbo import NoiseLevels, noise_levels, terms_at
from vdm.models.vdm.noise import Noise
from vdm.models.vdm.weights import Weight
from vdm.types import ElboTerms, Params, bits_per_dim

PER_IMAGE = "integrand"
"""Name among the metrics of every image's denoising loss at uniform times [B], nats."""


def gradient_by_noise_level(
    model: DiffusionModel,
    num_timesteps: int,
    by_variance: bool,
    weight: Weight | None,
    per_image: bool,
    num_microbatches: int,
) -> GradientFn:
    """Return the gradient of every group for a model with one gamma per time, see the module.

    Args:
      model: model whose schedule has one gamma per time.
      num_timesteps: T of the bound, or 0 for continuous time.
      by_variance: whether the schedule's interior descends the variance of the bound, not the bound.
      weight: weight of the denoiser's loss as a function of gamma; None = the bound's own.
      per_image: whether the metrics hold the loss of every image, under `PER_IMAGE`.
      num_microbatches: number of parts that a batch is taken in.
    """

    def gradient_fn(params, batch, noise, dropout_key):
        # The schedule is differentiated apart from the network, so that one backward pass of the
        # network serves two gradients of the schedule.
        levels, pull_back = jax.vjp(
            lambda schedule: noise_levels(
                model, {**params, "schedule": schedule}, noise.times, num_timesteps
            ),
            params["schedule"],
        )

        def network_gradient(batch, noise, levels, dropout_key):
            losses = _losses(model, params, batch, noise, dropout_key, weight)
            return _pull(losses, params["denoiser"], levels, one_loss=weight is None)

        denoiser, by_level, (means, nats, weighted) = _in_parts(
            network_gradient, num_microbatches, batch, noise, levels, dropout_key
        )
        schedule = pull_back(by_level)[0]

        # The interior takes the gradient of the variance instead; the end points keep the bound's.
        if by_variance and "shape" in schedule:
            scale = _excess(nats, noise, batch.mask, model)
            # Reconstruction and prior matching depend on the end points only: L is denoising matching.
            scaled = by_level._replace(
                gamma_0=jnp.zeros_like(levels.gamma_0),
                gamma_1=jnp.zeros_like(levels.gamma_1),
                gamma_t=scale * by_level.gamma_t,
                weight=scale * by_level.weight,
            )
            schedule = {**schedule, "shape": pull_back(scaled)[0]["shape"]}
        metrics = {**means, **endpoint_metrics(model, params)}
        if per_image:
            metrics[PER_IMAGE] = _at_uniform_times(weighted, noise)
        return {**params, "denoiser": denoiser, "schedule": schedule}, metrics

    return gradient_fn


def _losses(
    model: DiffusionModel, params: Params, batch, noise, dropout_key, weight: Weight | None
):
    """Return the losses as a function of the denoiser's parameters and the noise levels.

    The function gives ((the denoiser's loss, the bound) in bits/dim, (means, denoising matching [B],
    the same weighted [B], nats)).
    """

    def losses(denoiser, levels):
        terms = terms_at(
            model,
            {**params, "denoiser": denoiser},
            batch,
            noise,
            levels,
            train=True,
            dropout_key=dropout_key,
        )
        means = mean_bits_per_dim(terms, batch.mask, model.num_dims)
        weighted = _weighted(terms, weight, levels)
        loss = mean_bits_per_dim(weighted, batch.mask, model.num_dims)["bits_per_dim"]
        if weight:
            means["weighted_loss"] = loss
        nats = terms.denoising_matching, weighted.denoising_matching
        return (loss, means["bits_per_dim"]), (means, *nats)

    return losses


def _in_parts(network_gradient, num: int, batch, noise, levels: NoiseLevels, dropout_key):
    """Return `network_gradient` of the whole batch, see `_pull`, taken in `num` parts."""
    if num == 1:
        return network_gradient(batch, noise, levels, dropout_key)
    # Noise levels are split with their images; the end points are shared by all parts.
    split = microbatches.split((batch, noise, levels.gamma_t, levels.weight), num)
    shares = microbatches.shares(split[0].mask)

    def part(share, key, batch, noise, gamma_t, weight):
        here = levels._replace(gamma_t=gamma_t, weight=weight)
        denoiser, by_level, (means, *nats) = network_gradient(batch, noise, here, key)
        # By the level of one image: a part's mean is over its own images, the whole's over all.
        rows = (share * by_level.gamma_t, share * by_level.weight, *nats)
        return (denoiser, by_level.gamma_0, by_level.gamma_1, means), rows

    keys = jax.random.split(dropout_key, num)
    totals, rows = microbatches.average(part, (shares, keys, *split), shares)
    denoiser, gamma_0, gamma_1, means = totals
    by_gamma, by_weight, *nats = rows
    return denoiser, NoiseLevels(gamma_0, gamma_1, by_gamma, by_weight), (means, *nats)


def _pull(losses, denoiser: Params, levels: NoiseLevels, one_loss: bool):
    """Return (gradient of the first loss by the denoiser, of the second by the levels, the report).

    It takes one forward pass, and one backward pass if both losses are the same; otherwise a second
    backward pass, through the activations alone.
    """
    if one_loss:

        def loss_fn(denoiser, levels):
            (loss, _), report = losses(denoiser, levels)
            return loss, report

        grads, report = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)(denoiser, levels)
        return *grads, report
    values, pull_back, report = jax.vjp(losses, denoiser, levels, has_aux=True)
    one, zero = jnp.ones_like(values[0]), jnp.zeros_like(values[0])
    return pull_back((one, zero))[0], pull_back((zero, one))[1], report


def _weighted(terms: ElboTerms, weight: Weight | None, levels: NoiseLevels) -> ElboTerms:
    """Return the terms with w(gamma_t) times denoising matching; the weight is a constant factor."""
    if weight is None:
        return terms
    factor = jax.lax.stop_gradient(weight(levels.gamma_t))[:, 0, 0, 0]
    return dataclasses.replace(terms, denoising_matching=factor * terms.denoising_matching)


def _at_uniform_times(nats: jax.Array, noise: Noise) -> jax.Array:
    """Return the denoising loss [B] without the weights 1/p of its times."""
    return nats if noise.importance is None else nats / noise.importance


def _excess(nats: jax.Array, noise: Noise, mask: Any, model: DiffusionModel) -> jax.Array:
    """Return 2 (L - b) of every image in bits/dim [B,1,1,1], b the mean over unmasked images.

    The mean includes the image's own L: with independent times that scales the expected gradient by
    (B - 1)/B.
    """
    weighted = bits_per_dim(nats, model.num_dims)
    weight = mask.astype(jnp.float32)
    mean = jnp.sum(weight * weighted) / jnp.maximum(jnp.sum(weight), 1.0)
    loss = _at_uniform_times(weighted, noise)
    return 2.0 * (loss - mean)[:, None, None, None]


def endpoint_metrics(model: DiffusionModel, params: Params) -> Metrics:
    """Return the end points gamma(0) and gamma(1), averaged over pixels, as metrics."""
    gamma_0, gamma_1 = model.end_gammas(params)
    return {"gamma_0": jnp.mean(gamma_0), "gamma_1": jnp.mean(gamma_1)}
