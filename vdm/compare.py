"""Runs on the same images and the same noise: differences by pairs, and where in gamma they arise.

Two schedules meet the same noise level at different times. So in continuous time all runs are
evaluated at common gammas, uniform on the interval [low, high] that holds every run's own [gamma_0,
gamma_1], with the same eps:

    denoising matching = 1/2 (high - low) E[ 1{gamma_0 <= gamma <= gamma_1} |eps - eps_hat|^2 ]

which is the same integral for any scalar schedule (Kingma 2021, eq. 18). For T steps the schedule is
part of the model, and runs share steps and eps.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scipy import stats

from vdm.devices import batch_sharding, replicated
from vdm.elbo import NoiseLevels, terms_at
from vdm.evaluate import Evaluation, Sampling, make_evaluation_step
from vdm.model import VDM
from vdm.noise import evaluation_noise, evaluation_times
from vdm.schedules.base import endpoints, per_example
from vdm.types import ElboTerms, Params, bits_per_dim

NUM_BINS = 24


@dataclasses.dataclass(frozen=True)
class Difference:
    """One run minus another in bits/dim, over the same images and noise.

    Attributes:
      mean: of the difference.
      interval: 95 %, from the scatter of the difference over images.
      shrinkage: how much wider the interval would be without pairing; None for a run and itself.
    """

    mean: float
    interval: tuple[float, float]
    shrinkage: float | None


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
    """`one` - `other` of a term or of the total."""
    values = [bits_per_dim(_per_image(e, name), e.num_dims) for e in (one, other)]
    gap, num = values[0] - values[1], len(values[0])
    error = float(np.std(gap, ddof=1) / np.sqrt(num))
    unpaired = float(np.sqrt(sum(np.var(v, ddof=1) for v in values) / num))
    reach = float(stats.t.ppf(0.975, num - 1)) * error
    mean = float(gap.mean())
    return Difference(mean, (mean - reach, mean + reach), unpaired / error if error > 0 else None)


def profile(evaluation: Evaluation, gammas: tuple[float, float]) -> Profile:
    """Where the denoising term of an evaluation by `make_paired_step` arises (continuous time)."""
    low, high = gammas
    edges = np.linspace(low, high, NUM_BINS + 1)
    values = bits_per_dim(evaluation.terms["denoising_matching"], evaluation.num_dims)
    sampling, index = evaluation.sampling, jnp.asarray(evaluation.index)
    rows = [evaluation_times(sampling.seed, r, 0, index) for r in range(len(values))]
    bins = np.minimum((np.stack(rows) * NUM_BINS).astype(int), NUM_BINS - 1)
    by_bin = np.stack([np.where(bins == k, values, 0.0).mean(axis=0) for k in range(NUM_BINS)])
    by_bin /= edges[1] - edges[0]
    error = by_bin.std(axis=1, ddof=1) / np.sqrt(by_bin.shape[1])
    return Profile(edges, by_bin.mean(axis=1), error)


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


def _per_image(evaluation: Evaluation, name: str) -> np.ndarray:
    values = evaluation.total if name == "total" else evaluation.terms[name]
    return values.mean(axis=0)
