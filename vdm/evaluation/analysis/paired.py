"""Runs on the same images and the same noise: differences by pairs; `noise_levels` says where in gamma.

Two schedules meet the same noise level at different times. So in continuous time all runs are
evaluated at common gammas, uniform on the interval [low, high] that holds every run's own [gamma_0,
gamma_1], with the same eps:

    denoising matching = 1/2 (high - low) E[ 1{gamma_0 <= gamma <= gamma_1} |eps - eps_hat|^2 ]

which is the same integral for any scalar schedule (Kingma 2021, eq. 18). For T steps the schedule is
part of the model, and runs share steps and eps.
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
      mean: of the difference.
      interval: 95 % for the population of images, Student's t; None for a single image.
      bootstrap: the same by resampling pairs of images, see `vdm.evaluation.statistics.bootstrap`.
      given_images: 95 % for these images alone; None for one randomisation.
      p_value: of no difference in the population, two-sided; None where nothing is left to chance.
      holm: the p value adjusted for all runs that are compared, see `all_differences`.
      shrinkage: how much larger the standard error would be without pairing; None where it is 0.
      identical: whether the runs agree to the bit on every image.
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
    """The smallest interval of gamma that holds every model's; None where none has noise levels."""
    ranges = [model.noise_range(params) for model, params in models]
    known = [found for found in ranges if found is not None]
    if not known:
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def make_paired_step(
    model: Model, estimation: Estimation, gammas: tuple[float, float] | None, mesh: Mesh
) -> Callable[..., ElboTerms]:
    """A step for `vdm.evaluation.evaluate.evaluate` whose noise all models share at equal gamma.

    Args:
      model: one of those compared.
      estimation: how the bound is estimated; its T is for models that have one.
      gammas: the common range; unused for T steps, which models share.
      mesh: the devices.
    """
    if model.timesteps_train is None:
        own = dataclasses.replace(estimation, num_timesteps=0)
        return make_evaluation_step(model, own, mesh)
    if estimation.num_timesteps > 0 or gammas is None:
        # Runs with contexts share them too.
        return make_evaluation_step(model, estimation, mesh)
    terms = model.paired_terms(gammas)

    def step(params, batch, randomisation, repeat):
        noise = model.evaluation_noise(estimation.seed, randomisation, repeat, batch.index)
        return terms(params, batch, noise)

    shardings = (replicated(mesh), batch_sharding(mesh), None, None)
    return jax.jit(step, in_shardings=shardings, out_shardings=replicated(mesh))


def difference(one: Evaluation, other: Evaluation, name: str = "total") -> Difference:
    """`one` - `other` of a term or of the total.

    Not scipy's paired test: images share times, so that the error has a Monte Carlo part, with degrees
    of freedom of its own.

    Raises:
      ValueError: other images, dimensions or noise than the first's.
    """
    for field in ("num_dims", "estimation"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(
                f"{field}: {getattr(one, field)} and {getattr(other, field)} do not pair"
            )
    if not np.array_equal(one.index, other.index):
        raise ValueError("index: the two evaluations hold other images, or another order")
    here, there = one.nats(name), other.nats(name)
    shared = (other if one.times is None else one).shared(here - there)
    gap = estimate(here - there, one.num_dims, shared)
    error = gap.standard_error
    errors = [run.estimate(name).standard_error or 0.0 for run in (one, other)]
    return Difference(
        gap.mean,
        gap.interval,
        bootstrap_interval(here - there, one.num_dims, shared),
        gap.given_images,
        2.0 * float(stats.t.sf(abs(gap.mean) / error, gap.degrees_of_freedom)) if error else None,
        math.hypot(*errors) / error if error else None,
        identical=np.array_equal(here, there),
    )


def all_differences(
    evaluations: Mapping[str, Evaluation], names: Sequence[str]
) -> dict[tuple[str, str, str], Difference]:
    """{(run, first run, term): difference} of every run but the first against the first.

    `holm` adjusts, within one term, for the number of runs.
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
    tested = {run: gap.p_value for run, gap in gaps.items() if gap.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {run: dataclasses.replace(gap, holm=adjusted.get(run)) for run, gap in gaps.items()}
