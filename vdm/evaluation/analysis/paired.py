"""Paired comparison of runs: differences over the same images, noise levels and noise.

Two schedules reach the same noise level at different times. So in continuous time all runs are
evaluated at common gammas, uniform on the smallest interval [low, high] that contains [gamma_0,
gamma_1] of every run, with the same eps:

    denoising matching = 1/2 (high - low) E[ 1{gamma_0 <= gamma <= gamma_1} |eps - eps_hat|^2 ]

the same integral for any scalar schedule (Kingma et al. 2021, arXiv:2107.00630, eq. 18). For T steps
the schedule is part of the model, and runs share steps and eps. Where in gamma two runs differ is the
subject of `vdm.evaluation.analysis.noise_levels`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from scipy import stats

from vdm.evaluation.evaluate import Estimation, Evaluation, make_evaluation_step
from vdm.evaluation.statistics.bootstrap import bootstrap_interval
from vdm.evaluation.statistics.estimate import estimate, holm
from vdm.models.base import Model
from vdm.runtime.devices import batch_sharding, replicated
from vdm.types import ElboTerms, Params


@dataclasses.dataclass(frozen=True)
class Difference:
    """One run minus another in bits/dim, over the same images and noise.

    Attributes:
      mean: mean of the difference over images.
      interval: 95 % for the mean over the population of images, by Student's t; None for one image.
      bootstrap: the same by resampling pairs of images, see `vdm.evaluation.statistics.bootstrap`.
      given_images: 95 % for the exact mean over these images; None for one randomisation.
      p_value: two-sided, of the hypothesis that the population's mean is 0; None if the
        standard error is 0 or not estimated.
      shrinkage: standard error without pairing / standard error with it; None if the latter is 0.
      identical: true if both runs have bitwise the same value for every image.
      holm: the p value adjusted for the number of runs compared, see `all_differences`.
    """

    mean: float
    interval: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    given_images: tuple[float, float] | None
    p_value: float | None
    shrinkage: float | None
    identical: bool
    holm: float | None = None


def common_range(models: Sequence[tuple[Model, Params]]) -> tuple[float, float] | None:
    """Return the smallest interval of gamma that contains the [gamma_0, gamma_1] of every model.

    Models without noise levels, such as a VAE, are ignored; None if no model has any.

    Args:
      models: pairs of a model and its parameters.
    """
    ranges = [model.noise_range(params) for model, params in models]
    gammas = [low_and_high for low_and_high in ranges if low_and_high is not None]
    if not gammas:
        return None
    return min(low for low, _ in gammas), max(high for _, high in gammas)


def make_paired_step(
    model: Model, estimation: Estimation, gammas: tuple[float, float] | None, mesh: Mesh
) -> Callable[..., ElboTerms]:
    """Return a step for `vdm.evaluation.evaluate.evaluate` with the same noise for all models.

    Args:
      model: one of the models that are compared.
      estimation: settings of the estimate; its T applies to models with a free T.
      gammas: the common range, from `common_range`; unused for T steps.
      mesh: the devices; their number must divide the batch size.

    Returns:
      (params, batch, randomisation, repeat) -> ElboTerms [B].
    """
    # A family with a fixed number of latents takes no T; it is paired by images alone.
    if model.timesteps_train is None:
        without_timesteps = dataclasses.replace(estimation, num_timesteps=0)
        return make_evaluation_step(model, without_timesteps, mesh)

    # The noise of evaluations depends on (seed, randomisation, repeat, image) alone, not on the model:
    # for T steps the ordinary step is paired already. Contexts share their noise too.
    if estimation.num_timesteps > 0 or gammas is None:
        return make_evaluation_step(model, estimation, mesh)

    # In continuous time equal times are not equal gammas, hence terms of their own.
    terms = model.paired_terms(gammas)

    def step(params, batch, randomisation, repeat):
        noise = model.evaluation_noise(estimation.seed, randomisation, repeat, batch.index)
        return terms(params, batch, noise)

    shardings = (replicated(mesh), batch_sharding(mesh), None, None)
    return jax.jit(step, in_shardings=shardings, out_shardings=replicated(mesh))


def difference(one: Evaluation, other: Evaluation, name: str = "total") -> Difference:
    """Return `one` - `other` for a term, or for "total", paired by images and randomisations.

    It is not scipy's paired t test: images share times, so that the standard error has a Monte Carlo
    part, with other degrees of freedom (`vdm.evaluation.statistics.estimate`).

    Raises:
      ValueError: the two evaluations differ in images, dimensions or settings.
    """
    for field in ("num_dims", "estimation"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(
                f"{field}: {getattr(one, field)} and {getattr(other, field)} do not pair; "
                "evaluate both with the same settings"
            )
    if not np.array_equal(one.index, other.index):
        raise ValueError(
            "index: the two evaluations have different images, or another order; evaluate one split"
        )

    # The function of time that images share is fitted to the differences: pairing cancels most of it.
    nats_one, nats_other = one.nats(name), other.nats(name)
    shared = (other if one.times is None else one).shared(nats_one - nats_other)
    gap = estimate(nats_one - nats_other, one.num_dims, shared)
    error = gap.standard_error
    errors = [run.estimate(name).standard_error or 0.0 for run in (one, other)]
    return Difference(
        gap.mean,
        gap.interval,
        bootstrap_interval(nats_one - nats_other, one.num_dims, shared),
        gap.given_images,
        2.0 * float(stats.t.sf(abs(gap.mean) / error, gap.degrees_of_freedom)) if error else None,
        math.hypot(*errors) / error if error else None,
        identical=np.array_equal(nats_one, nats_other),
    )


def all_differences(
    evaluations: Mapping[str, Evaluation], names: Sequence[str]
) -> dict[tuple[str, str, str], Difference]:
    """Return {(run, first run, term): run - first run} for every run but the first.

    Args:
      evaluations: {name of the run: its evaluation}; the first is the reference.
      names: terms, or "total". `Difference.holm` adjusts for the number of runs within each.
    """
    first, *rest = evaluations
    return {
        (run, first, name): gap
        for name in names
        for run, gap in _adjusted(
            {run: difference(evaluations[run], evaluations[first], name) for run in rest}
        ).items()
    }


def _adjusted(gaps: Mapping[str, Difference]) -> dict[str, Difference]:
    """Return the differences with their p values adjusted; those without a p value are not counted."""
    tested = {run: gap.p_value for run, gap in gaps.items() if gap.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {run: dataclasses.replace(gap, holm=adjusted.get(run)) for run, gap in gaps.items()}
