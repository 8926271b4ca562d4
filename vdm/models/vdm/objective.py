"""What each parameter group minimises.

Denoiser, encoder and end points of the schedule minimise the bound. So does the schedule's shape for T
steps, and one with a gamma per pixel or per image, whose bound is a line integral, in any case.
In continuous time the bound of a scalar schedule does not depend on the shape, and its gradient is
noise around 0; the shape then minimises the *variance* of the estimate (Kingma 2021, app. I.2):

    L(t, eps) = 1/2 gamma'(t) |eps - eps_hat(z_t)|^2,   Var L = E[L^2] - (E L)^2,
    d Var L = d E[L^2] = E[2 (L - b) dL]                for any b that t and eps do not enter,

because E L does not depend on the shape, so that E[b dL] = 0. One backward pass of the network gives
dL/dgamma(t) and dL/dgamma'(t) of every image (equal to L/gamma'); both are scaled by 2 (L - b), b the
mean of L over the batch, and pulled back through (gamma, gamma') into the shape. Neither may be left
out: with gamma(t) alone the gradient points the other way.

The denoiser may minimise a weighting of the bound instead, see `vdm.models.vdm.weights`. That moves
nothing else: end points still descend the bound, and the shape still lowers the variance of the
*bound*, the number that is reported. (To lower the variance of a weighted loss, draw times by
`vdm.models.vdm.time_density`: a weight may jump in gamma, and the gradient of a variance through a jump
is not the mean of gradients.)

Times from a density p have weights 1/p. They multiply dL above, but not L - b: the variance that the
shape lowers is that of uniform times, whatever the times were drawn from.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError, choose
from vdm.models import microbatches
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.means import Metrics, mean_bits_per_dim
from vdm.models.vdm.elbo import NoiseLevels, elbo_terms, noise_levels, terms_at
from vdm.models.vdm.noise import Noise
from vdm.models.vdm.time_density import TimeDensity, draw, drawn_gammas, observe
from vdm.models.vdm.weights import Weight
from vdm.types import Batch, ElboTerms, Params, PRNGKey, bits_per_dim

LossFn = Callable[[Params, Batch, Noise, PRNGKey], tuple[jax.Array, Metrics]]
"""(params, batch, noise, dropout_key) -> (scalar to minimise, metrics)."""
GradientFn = Callable[[Params, Batch, Noise, PRNGKey], tuple[Params, Metrics]]
"""(params, batch, noise, dropout_key) -> (what to descend along, like params; metrics)."""

SHAPE_OBJECTIVES = {"variance": True, "elbo": False}
"""Whether a learned shape minimises, in continuous time, the variance of the bound."""
PER_IMAGE = "integrand"
"""The denoising loss of every image in nats [B], among the metrics if they were asked for."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a VDM is trained on.

    Attributes:
      num_timesteps: T of the bound, or 0 for continuous time.
      shape: "variance" or "elbo", what the schedule's shape minimises; None = by the schedule.
      weight: of the denoiser's loss as a function of gamma; None = the bound's own.
      adaptive_times: whether times are drawn from a density that follows the loss.
      num_microbatches: parts that a batch is taken in.
    """

    num_timesteps: int = 0
    shape: str | None = None
    weight: Weight | None = None
    adaptive_times: bool = False
    num_microbatches: int = 1


DEFAULT_OBJECTIVE = Objective()
"""The bound in continuous time."""


def objective_gradient(model: DiffusionModel) -> GradientFn:
    """`make_gradient` with the model's own objective.

    Raises:
      ConfigError: as `make_gradient`.
    """
    objective = model.objective
    return make_gradient(
        model,
        objective.num_timesteps,
        objective.shape,
        objective.weight,
        per_image=objective.adaptive_times,
        num_microbatches=objective.num_microbatches,
    )


def descend(
    model: DiffusionModel,
    params: Params,
    density: TimeDensity | None,
    batch: Batch,
    noise: Noise,
    key: PRNGKey,
) -> tuple[Params, TimeDensity | None, Metrics]:
    """One step's gradient of every group, the next density of times, and metrics in bits/dim.

    Args:
      model: its `objective` says what is descended.
      params: the model's parameters.
      density: the density of adaptive times; None where times are uniform.
      batch: images; padding is masked.
      noise: with uniform times, which `density` maps to its own.
      key: for dropout.
    """
    schedule, own = model.schedule, params["schedule"]
    if density is not None:
        times, importance = draw(density, schedule, own, noise.times)
        noise = dataclasses.replace(noise, times=times, importance=importance)
    grads, metrics = objective_gradient(model)(params, batch, noise, key)
    if model.has_scalar_gamma:
        metrics |= drawn_gammas(density, schedule, own)
    if density is not None:
        integrand = metrics.pop(PER_IMAGE)
        density = observe(density, schedule, own, noise.times, integrand, batch.mask)
    return grads, density, metrics


def make_elbo_loss(model: DiffusionModel, num_timesteps: int) -> LossFn:
    """The mean negative ELBO in bits/dim over unmasked images, for T steps or T = 0 (continuous)."""

    def loss_fn(params, batch, noise, dropout_key):
        terms = elbo_terms(
            model, params, batch, noise, num_timesteps, train=True, dropout_key=dropout_key
        )
        means = mean_bits_per_dim(terms, batch.mask, model.num_dims)
        return means["bits_per_dim"], {**means, **endpoint_metrics(model, params)}

    return loss_fn


def make_gradient(
    model: DiffusionModel,
    num_timesteps: int,
    shape: str | None = None,
    weight: Weight | None = None,
    per_image: bool = False,
    num_microbatches: int = 1,
) -> GradientFn:
    """The gradient of every group, see the module.

    Args:
      model: with one gamma per pixel or per image, the schedule's shape and the encoder take the
        bound's own gradient, whatever the time.
      num_timesteps: T of the bound that is trained, or 0 for continuous time.
      shape: "variance" or "elbo", what a schedule's branch "shape" minimises; None = "variance" for a
        scalar schedule in continuous time, "elbo" otherwise.
      weight: of the denoiser's loss; None = the bound's own. The weighted loss is reported beside it.
      per_image: whether the metrics hold PER_IMAGE.
      num_microbatches: parts that a batch is taken in; only dropout then draws differently.

    Raises:
      ConfigError: no such objective, "variance" for T steps, or what needs a scalar schedule.
    """
    scalar = model.has_scalar_gamma
    shape = shape or ("variance" if scalar and num_timesteps == 0 else "elbo")
    by_variance = choose("objective.interior_loss", shape, SHAPE_OBJECTIVES, "loss of the interior")
    if by_variance and num_timesteps > 0:
        raise ConfigError(
            f"objective.interior_loss='variance': with T = {num_timesteps} steps the bound itself "
            "depends on the interior; choose 'elbo', or objective.num_timesteps=0"
        )
    if not scalar:
        _refuse_for_many_gammas(by_variance, weight, per_image)
    if not (by_variance or weight or per_image):
        return microbatches.gradient(make_elbo_loss(model, num_timesteps), num_microbatches)
    return _gradient_by_level(
        model, num_timesteps, by_variance, weight, per_image, num_microbatches
    )


def _refuse_for_many_gammas(by_variance: bool, weight: Weight | None, per_image: bool) -> None:
    """ConfigError for what needs one gamma per time."""
    reasons = {
        "objective.interior_loss='variance'": (
            by_variance,
            "the path of gamma changes the bound itself, which its variance knows nothing of; "
            "choose 'elbo'",
        ),
        "objective.weight": (
            weight is not None,
            "a weight is a function of one gamma per image; choose objective.weight.name='elbo'",
        ),
        "objective.times='adaptive'": (
            per_image,
            "the density of times is kept by gamma; choose 'uniform'",
        ),
    }
    for field, (asked, reason) in reasons.items():
        if asked:
            raise ConfigError(
                f"{field}: with one gamma per pixel or per image {reason}, or a scalar schedule"
            )


def _gradient_by_level(
    model: DiffusionModel,
    num_timesteps: int,
    by_variance: bool,
    weight: Weight | None,
    per_image: bool,
    num_microbatches: int,
) -> GradientFn:
    def gradient_fn(params, batch, noise, dropout_key):
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
        if by_variance and "shape" in schedule:
            scale = _excess(nats, noise, batch.mask, model)
            # The reconstruction and prior terms depend on the end points only.
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
    """(denoiser, levels) -> ((the denoiser's loss, the bound), (means, both losses of every image))."""

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
    """`network_gradient` of the whole batch, see `_pull`, taken in `num` parts."""
    if num == 1:
        return network_gradient(batch, noise, levels, dropout_key)
    split = microbatches.split((batch, noise, levels.gamma_t, levels.weight), num)
    shares = microbatches.shares(split[0].mask)

    def part(share, key, batch, noise, gamma_t, weight):
        here = levels._replace(gamma_t=gamma_t, weight=weight)
        denoiser, by_level, (means, *nats) = network_gradient(batch, noise, here, key)
        rows = (share * by_level.gamma_t, share * by_level.weight, *nats)
        return (denoiser, by_level.gamma_0, by_level.gamma_1, means), rows

    keys = jax.random.split(dropout_key, num)
    totals, rows = microbatches.average(part, (shares, keys, *split), shares)
    denoiser, gamma_0, gamma_1, means = totals
    by_gamma, by_weight, *nats = rows
    return denoiser, NoiseLevels(gamma_0, gamma_1, by_gamma, by_weight), (means, *nats)


def _pull(losses, denoiser: Params, levels: NoiseLevels, one_loss: bool):
    """(gradient of the first loss by the denoiser, of the second by the levels, what is reported).

    One forward pass; one backward pass where both are one loss, and else a second one, through the
    activations alone.
    """
    if one_loss:

        def loss_fn(denoiser, levels):
            (loss, _), report = losses(denoiser, levels)
            return loss, report

        grads, report = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)(denoiser, levels)
        return *grads, report
    found, pull_back, report = jax.vjp(losses, denoiser, levels, has_aux=True)
    one, zero = jnp.ones_like(found[0]), jnp.zeros_like(found[0])
    return pull_back((one, zero))[0], pull_back((zero, one))[1], report


def _weighted(terms: ElboTerms, weight: Weight | None, levels: NoiseLevels) -> ElboTerms:
    if weight is None:
        return terms
    factor = jax.lax.stop_gradient(weight(levels.gamma_t))[:, 0, 0, 0]
    return dataclasses.replace(terms, denoising_matching=factor * terms.denoising_matching)


def _at_uniform_times(nats: jax.Array, noise: Noise) -> jax.Array:
    """The denoising loss without the weights 1/p of its times [B]."""
    return nats if noise.importance is None else nats / noise.importance


def _excess(nats: jax.Array, noise: Noise, mask: Any, model: DiffusionModel) -> jax.Array:
    """2 (L - b) of every image in bits/dim [B,1,1,1], b the mean over unmasked images.

    That mean holds L itself: with independent times it scales the expected gradient by (B - 1)/B.
    """
    weighted = bits_per_dim(nats, model.num_dims)
    weight = mask.astype(jnp.float32)
    mean = jnp.sum(weight * weighted) / jnp.maximum(jnp.sum(weight), 1.0)
    loss = _at_uniform_times(weighted, noise)
    return 2.0 * (loss - mean)[:, None, None, None]


def endpoint_metrics(model: DiffusionModel, params: Params) -> Metrics:
    """The mean end points of gamma."""
    gamma_0, gamma_1 = model.end_gammas(params)
    return {"gamma_0": jnp.mean(gamma_0), "gamma_1": jnp.mean(gamma_1)}
