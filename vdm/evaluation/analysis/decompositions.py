"""Luo's two decompositions of one bound, side by side on the same trajectories.

Each is reconstruction + prior term + T matching terms. The first two are L_T (Luo 2022,
arXiv:2208.11970, eq. 58 and 44-45), with r < s < t neighbours on the grid of T steps:

    denoising       KL(q(z_1|x) || p(z_1))     + sum E KL(q(z_s|z_t,x) || p(z_s|z_t))
    consistency     E KL(q(z_1|z_s) || p(z_1)) + sum E[log q(z_s|z_r) - log p(z_s|z_t)]
    consistency_kl  the same prior term        + sum E KL(q(z_s|z_r) || p(z_s|z_t))

"consistency_kl" takes eq. 45 literally, as a KL divergence. Given z_r the latents z_s and z_t are
dependent, so that it is not the expectation of eq. 44, and not the bound: it is far larger.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.batches import Batches, Progress, join, silent, visit
from vdm.evaluation.bounds.base import MAX_TIMESTEPS
from vdm.evaluation.bounds.consistency import TrajectoryTerms, make_trajectory_terms
from vdm.models.diffusion_model import DiffusionModel
from vdm.types import Params


@dataclasses.dataclass(frozen=True)
class Decomposition:
    """One decomposition of the bound along R trajectories of each of N images, in nats.

    Attributes:
      ends: reconstruction + prior + auxiliary term [R,N].
      matching: sum_i c_i of the T matching terms of a trajectory [R,N].
      squares: T sum_i c_i^2 [R,N], in nats^2.
    """

    ends: np.ndarray
    matching: np.ndarray
    squares: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The negative ELBO estimated from each trajectory [R,N], nats."""
        return self.ends + self.matching

    @property
    def variance_dense(self) -> float:
        """Variance of an image's total from all T terms of one trajectory, nats^2, mean over images."""
        return float(self.total.var(axis=0, ddof=1).mean())

    @property
    def variance_one_time(self) -> float:
        """Variance of an image's T c_i for one uniformly random step i, nats^2, mean over images.

        E[T sum_i c_i^2] - (E sum_i c_i)^2.
        """
        # The square of a sample mean exceeds the squared mean by the variance of the mean.
        variance_of_mean = self.matching.var(axis=0, ddof=1) / len(self.matching)
        squared_mean = self.matching.mean(axis=0) ** 2 - variance_of_mean
        return float((self.squares.mean(axis=0) - squared_mean).mean())


def evaluate_decompositions(
    model: DiffusionModel,
    params: Params,
    batches: Batches,
    mesh: Mesh,
    num_timesteps: int,
    trajectories: int,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Decomposition]:
    """Evaluate all decompositions along the same trajectories.

    Args:
      model, params: a trained diffusion model; pass the EMA parameters.
      batches: every image once, padding masked.
      mesh: the devices; each batch must divide evenly.
      num_timesteps: T, network evaluations per trajectory.
      trajectories: R, independent trajectories per image, at least 2.
      seed: random seed of all noise.
      progress: called after every trajectory of every batch.

    Returns:
      {name in `DECOMPOSITIONS`: Decomposition}.

    Raises:
      ConfigError: num_timesteps or trajectories is out of range.
    """
    if not 1 <= num_timesteps <= MAX_TIMESTEPS:
        raise ConfigError(f"num_timesteps={num_timesteps}: choose T in 1..{MAX_TIMESTEPS}")
    if trajectories < 2:
        raise ConfigError(f"trajectories={trajectories}: a variance needs at least 2")
    trajectory_terms = make_trajectory_terms(model, num_timesteps, seed, mesh)

    def step(batch, trajectory):
        return _sums(trajectory_terms(params, batch, trajectory))

    _, sums = join(list(visit(batches, step, trajectories, mesh, progress)))
    return {
        name: Decomposition(*(sums[name, field] for field in FIELDS)) for name in DECOMPOSITIONS
    }


DECOMPOSITIONS = ("denoising", "consistency", "consistency_kl")
FIELDS = tuple(field.name for field in dataclasses.fields(Decomposition))


def _sums(terms: TrajectoryTerms) -> dict[tuple[str, str], np.ndarray]:
    """Return {(decomposition, field): [B]}, sums over steps: T terms of a whole split are too many."""
    priors = (terms.prior_matching, terms.prior_consistency, terms.prior_consistency)
    matching = (terms.steps[name] for name in ("matching", "consistency", "consistency_kl"))
    sums = {}
    for name, prior, term in zip(DECOMPOSITIONS, priors, matching, strict=True):
        sums[name, "ends"] = terms.reconstruction + prior + terms.auxiliary
        sums[name, "matching"] = term.sum(axis=1)
        sums[name, "squares"] = term.shape[1] * np.square(term).sum(axis=1)
    return sums
