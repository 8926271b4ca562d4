"""Runs on the same images and the same noise: differences by pairs, and where in gamma they arise.

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
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vdm.devices import batch_sharding, replicated
from vdm.elbo import NoiseLevels, terms_at
from vdm.estimate import estimate
from vdm.evaluate import Evaluation, Sampling, make_evaluation_step
from vdm.model import VDM
from vdm.noise import evaluation_noise, evaluation_times
from vdm.schedules.base import endpoints, per_example
from vdm.types import ElboTerms, Params

NUM_BINS = 24


@dataclasses.dataclass(frozen=True)
class Difference:
    """One run minus another in bits/dim, over the same images and noise.

    Attributes:
      mean: of the difference.
      interval: 95 % for the population of images; None for a single image.
      shrinkage: how much larger the standard error would be without pairing; None where it is 0.
      identical: whether the runs agree to the bit on every image.
    """

    mean: float
    interval: tuple[float, float] | None
    shrinkage: float | None
    identical: bool


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where in gamma the denoising term arises: bits/dim per unit of gamma, in equal bins.

    Attributes:
      edges: of the bins [K + 1].
      density: mean over images [K]; times the width of a bin it sums to the denoising term.
      standard_error: over images [K].
    """

    edges: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray


def common_range(models: Sequence[tuple[VDM, Params]]) -> tuple[float, float]:
    """(low, high), the smallest interval that holds the end points of every run."""
    ends = [endpoints(model.schedule, params["schedule"]) for model, params in models]
    return min(float(jnp.min(e[0])) for e in ends), max(float(jnp.max(e[1])) for e in ends)


def make_paired_step(
    model: VDM, sampling: Sampling, gammas: tuple[float, float], mesh: Mesh
) -> Callable[..., ElboTerms]:
    """A step for `vdm.evaluate.evaluate` whose noise is the same for all runs at equal gamma.

    `gammas` is the common range; for T steps it goes unused.
    """
    if sampling.num_timesteps > 0:
        return make_evaluation_step(model, sampling, mesh)
    low, high = gammas

    def step(params, batch, randomisation, repeat):
        noise = evaluation_noise(sampling.seed, randomisation, repeat, batch.index, model.shape)
        gamma_0, gamma_1 = endpoints(model.schedule, params["schedule"])
        gamma = low + per_example(noise.times) * (high - low)
        inside = (gamma >= gamma_0) & (gamma <= gamma_1)
        weight = jnp.where(inside, 0.5 * (high - low), 0.0)
        # Outside its range a network may answer anything; the weight is 0 there.
        gamma = jnp.clip(gamma, gamma_0, gamma_1)
        return terms_at(model, params, batch, noise, NoiseLevels(gamma_0, gamma_1, gamma, weight))

    shardings = (replicated(mesh), batch_sharding(mesh), None, None)
    return jax.jit(step, in_shardings=shardings, out_shardings=replicated(mesh))


def difference(one: Evaluation, other: Evaluation, name: str = "total") -> Difference:
    """`one` - `other` of a term or of the total.

    Raises:
      ValueError: other images, dimensions or noise than the first's.
    """
    for field in ("num_dims", "sampling"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(
                f"{field}: {getattr(one, field)} and {getattr(other, field)} do not pair"
            )
    if not np.array_equal(one.index, other.index):
        raise ValueError("index: the two evaluations hold other images, or another order")
    here, there = _nats(one, name), _nats(other, name)
    gap = estimate(here - there, one.num_dims)
    errors = [estimate(values, one.num_dims).standard_error or 0.0 for values in (here, there)]
    return Difference(
        gap.mean,
        gap.interval,
        math.hypot(*errors) / gap.standard_error if gap.standard_error else None,
        identical=np.array_equal(here, there),
    )


def profile(evaluation: Evaluation, gammas: tuple[float, float]) -> Profile:
    """Where the denoising term of an evaluation by `make_paired_step` arises (continuous time).

    Raises:
      ValueError: several times per image, whose values are averaged, or one image alone.
    """
    sampling, num_images = evaluation.sampling, len(evaluation.index)
    if sampling.repeats != 1 or num_images < 2:
        raise ValueError(f"repeats={sampling.repeats}, {num_images} images: need 1, and at least 2")
    low, high = gammas
    edges = np.linspace(low, high, NUM_BINS + 1)
    values = evaluation.terms["denoising_matching"] / (edges[1] - edges[0])
    index = jnp.asarray(evaluation.index)
    rows = [evaluation_times(sampling.seed, r, 0, index) for r in range(len(values))]
    bins = np.minimum((np.stack(rows) * NUM_BINS).astype(int), NUM_BINS - 1)
    found = [
        estimate(np.where(bins == k, values, 0.0), evaluation.num_dims) for k in range(NUM_BINS)
    ]
    return Profile(
        edges, np.array([e.mean for e in found]), np.array([e.standard_error for e in found])
    )


def all_differences(
    evaluations: Mapping[str, Evaluation], names: Sequence[str]
) -> dict[tuple[str, str, str], Difference]:
    """{(run, other run, term): difference} of every run but the first against the first."""
    first, *rest = evaluations
    return {
        (run, first, name): difference(evaluations[run], evaluations[first], name)
        for run in rest
        for name in names
    }


def _nats(evaluation: Evaluation, name: str) -> np.ndarray:
    return evaluation.total if name == "total" else evaluation.terms[name]
