"""Luo's two decompositions of one bound, side by side on the same trajectories.

Both are reconstruction + prior term + T matching terms, and both are L_T (Luo 2022, eq. 44-45 and 58):

    denoising    KL(q(z_1|x) || p(z_1))     + sum E KL(q(z_s|z_t,x) || p(z_s|z_t))
    consistency  E KL(q(z_1|z_s) || p(z_1)) + sum E[log q(z_s|z_r) - log p(z_s|z_t)],   r < s < t
    printed      the same with               sum E KL(q(z_s|z_r) || p(z_s|z_t))

z_r and z_t are dependent, so that the last is not the bound: it is far larger.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.batches import Batches, Progress, join, silent, visit
from vdm.evaluation.bounds.base import MAX_TIMESTEPS
from vdm.evaluation.bounds.consistency import Walk, make_walk
from vdm.models.diffusion_model import DiffusionModel
from vdm.types import Params


@dataclasses.dataclass(frozen=True)
class Form:
    """One decomposition over R trajectories of each of N images, nats.

    Attributes:
      ends: reconstruction, prior and auxiliary term [R,N].
      matching: sum of the T terms [R,N].
      squares: T times the sum of their squares [R,N].
    """

    ends: np.ndarray
    matching: np.ndarray
    squares: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """[R,N]"""
        return self.ends + self.matching

    @property
    def variance_dense(self) -> float:
        """Of an image's total from all terms of one trajectory, mean over images."""
        return float(self.total.var(axis=0, ddof=1).mean())

    @property
    def variance_one_time(self) -> float:
        """Of an image's T c_i for one random step i: E[T sum c^2] - E[sum c]^2, mean over images."""
        spread = self.matching.var(axis=0, ddof=1) / len(self.matching)
        squared_mean = self.matching.mean(axis=0) ** 2 - spread  # unbiased
        return float((self.squares.mean(axis=0) - squared_mean).mean())


def evaluate_forms(
    model: DiffusionModel,
    params: Params,
    batches: Batches,
    mesh: Mesh,
    num_timesteps: int,
    trajectories: int,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Form]:
    """{"denoising", "consistency", "printed": Form}, T network evaluations per trajectory."""
    if not 1 <= num_timesteps <= MAX_TIMESTEPS:
        raise ConfigError(f"num_timesteps={num_timesteps}: choose T in 1..{MAX_TIMESTEPS}")
    if trajectories < 2:
        raise ConfigError(f"trajectories={trajectories}: a variance needs at least 2")
    walk = make_walk(model, num_timesteps, seed, mesh)

    def step(batch, trajectory):
        return _forms(walk(params, batch, trajectory))

    _, found = join(list(visit(batches, step, trajectories, mesh, progress)))
    return {name: Form(*(found[name, part] for part in PARTS)) for name in FORMS}


FORMS = ("denoising", "consistency", "printed")
PARTS = ("ends", "matching", "squares")


def _forms(walk: Walk) -> dict:
    """{(form, part): [B]}"""
    priors = (walk.prior_matching, walk.prior_consistency, walk.prior_consistency)
    terms = (walk.costs[name] for name in ("matching", "consistency", "printed"))
    found = {}
    for name, prior, term in zip(FORMS, priors, terms, strict=True):
        found[name, "ends"] = walk.reconstruction + prior + walk.auxiliary
        found[name, "matching"] = term.sum(axis=1)
        found[name, "squares"] = term.shape[1] * np.square(term).sum(axis=1)
    return found
