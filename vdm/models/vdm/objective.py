"""Training objective of a VDM: the quantity that each parameter group minimises.

Denoiser, encoder and end points of the schedule minimise the bound. So does the schedule's interior
for T steps, and, in continuous time too, that of a schedule with a gamma per pixel or per
image, whose bound is a line integral. In continuous time the bound of a scalar schedule does not depend
on the interior, and its gradient is noise around 0; the interior then minimises the *variance* of the
estimate (Kingma et al. 2021, arXiv:2107.00630, app. I.2), see `vdm.models.vdm.noise_level_gradient`.

The denoiser may minimise a weighting of the bound instead, see `vdm.models.vdm.weights`. The other
groups are unaffected: end points still descend the bound, and the interior still lowers the variance of
the *bound*, the number that is reported. (To lower the variance of a weighted loss, draw times by
`vdm.models.vdm.time_density`: a weight may jump in gamma, and the gradient of a variance through a jump
is not the mean of gradients.)

Times from a density p have weights 1/p. They multiply dL above, but not L - b: the variance that the
interior lowers is that of uniform times, whatever the times were drawn from.
"""

import dataclasses

from vdm.errors import ConfigError, choose
from vdm.models import microbatches
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.means import Metrics, mean_bits_per_dim
from vdm.models.microbatches import GradientFn, LossFn
from vdm.models.vdm.elbo import elbo_terms
from vdm.models.vdm.noise import Noise
from vdm.models.vdm.noise_level_gradient import (
    PER_IMAGE,
    endpoint_metrics,
    gradient_by_noise_level,
)
from vdm.models.vdm.time_density import TimeDensity, draw, drawn_gammas, observe
from vdm.models.vdm.weights import Weight
from vdm.types import Batch, Params, PRNGKey

INTERIOR_LOSSES = {"variance": True, "elbo": False}
"""{objective of a learned interior: whether it is the variance of the bound, not the bound}."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """Training objective of a VDM.

    Attributes:
      num_timesteps: T of the bound, or 0 for continuous time.
      interior_loss: objective of the schedule's interior, "variance" or "elbo"; None = by the schedule.
      weight: weight of the denoiser's loss as a function of gamma; None = the bound's own.
      adaptive_times: whether times are drawn from a density that follows the loss.
    """

    num_timesteps: int = 0
    interior_loss: str | None = None
    weight: Weight | None = None
    adaptive_times: bool = False


DEFAULT_OBJECTIVE = Objective()
"""Objective of a model that was given none: the bound in continuous time."""


def objective_gradient(model: DiffusionModel) -> GradientFn:
    """Return `make_gradient` for the model's own objective and number of microbatches.

    Raises:
      ConfigError: as `make_gradient`.
    """
    objective = model.objective
    return make_gradient(
        model,
        objective.num_timesteps,
        objective.interior_loss,
        objective.weight,
        per_image=objective.adaptive_times,
        num_microbatches=model.num_microbatches,
    )


def descend(
    model: DiffusionModel,
    params: Params,
    density: TimeDensity | None,
    batch: Batch,
    noise: Noise,
    key: PRNGKey,
) -> tuple[Params, TimeDensity | None, Metrics]:
    """Return (gradient of every group, next density of times, metrics in bits/dim) of a step.

    Args:
      model: a diffusion model, whose `objective` is descended.
      params: the model's parameters.
      density: the density of adaptive times; None where times are uniform.
      batch: images; padding is masked.
      noise: draws with uniform times, which `density` maps to its own.
      key: key of dropout, consumed.
    """
    schedule, schedule_params = model.schedule, params["schedule"]
    # Uniform times become times of the density, by its inverse distribution function.
    if density is not None:
        times, importance = draw(density, schedule, schedule_params, noise.times)
        noise = dataclasses.replace(noise, times=times, importance=importance)
    grads, metrics = objective_gradient(model)(params, batch, noise, key)
    if model.has_scalar_gamma:
        metrics |= drawn_gammas(density, schedule, schedule_params)
    if density is not None:
        # The losses of images are no scalar metric: they end here, in the running means.
        integrand = metrics.pop(PER_IMAGE)
        density = observe(density, schedule, schedule_params, noise.times, integrand, batch.mask)
    return grads, density, metrics


def make_elbo_loss(model: DiffusionModel, num_timesteps: int) -> LossFn:
    """Return the mean negative ELBO over unmasked images in bits/dim as a function to minimise.

    Args:
      model: a diffusion model.
      num_timesteps: T, or 0 for continuous time.
    """

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
    interior_loss: str | None = None,
    weight: Weight | None = None,
    per_image: bool = False,
    num_microbatches: int = 1,
) -> GradientFn:
    """Return the gradient of every group, see the module.

    Args:
      model: a diffusion model. If it has a gamma per pixel or per image, the schedule's interior and
        the encoder take the bound's own gradient, also in continuous time.
      num_timesteps: T of the bound that is trained, or 0 for continuous time.
      interior_loss: objective of the schedule's interior, "variance" or "elbo"; None = "variance" for a
        scalar schedule in continuous time, "elbo" otherwise.
      weight: weight of the denoiser's loss; None = the bound's own. The weighted loss is reported
        beside the bound.
      per_image: whether the metrics hold the loss of every image, under `PER_IMAGE`.
      num_microbatches: number of parts that a batch is taken in. Only dropout depends on it.

    Raises:
      ConfigError: an unknown objective, "variance" for T steps, or an option that needs a scalar
        schedule.
    """
    scalar = model.has_scalar_gamma
    default = "variance" if scalar and num_timesteps == 0 else "elbo"
    loss = default if interior_loss is None else interior_loss
    by_variance = choose("objective.interior_loss", loss, INTERIOR_LOSSES, "loss of the interior")
    if by_variance and num_timesteps > 0:
        raise ConfigError(
            f"objective.interior_loss='variance': with T = {num_timesteps} steps the bound itself "
            "depends on the interior; choose 'elbo', or objective.num_timesteps=0"
        )
    if not scalar:
        _refuse_for_many_gammas(by_variance, weight, per_image)
    if not (by_variance or weight or per_image):
        return microbatches.gradient(make_elbo_loss(model, num_timesteps), num_microbatches)
    return gradient_by_noise_level(
        model, num_timesteps, by_variance, weight, per_image, num_microbatches
    )


def _refuse_for_many_gammas(by_variance: bool, weight: Weight | None, per_image: bool) -> None:
    """Refuse with a ConfigError the options that need one gamma per time."""
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
