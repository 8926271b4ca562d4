"""Luo's two decompositions of one bound, side by side on the same trajectories.

Both are reconstruction + prior term + T matching terms, and both are L_T (Luo 2022, eq. 44-45 and 58):

    denoising    KL(q(z_1|x) || p(z_1))     + sum E KL(q(z_s|z_t,x) || p(z_s|z_t))
    consistency  E KL(q(z_1|z_s) || p(z_1)) + sum E[log q(z_s|z_r) - log p(z_s|z_t)],   r < s < t
    printed      the same with               sum E KL(q(z_s|z_r) || p(z_s|z_t))

z_r and z_t are dependent, so that the last is not the bound: it is far larger.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError
from vdm.evaluation.bounds.base import MAX_TIMESTEPS
from vdm.evaluation.bounds.consistency import Walk, make_walk
from vdm.models.diffusion_model import DiffusionModel
from vdm.runtime.devices import place_batch
from vdm.types import Batch, Params


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
    batches: Iterable[Batch],
    mesh: Mesh,
    num_timesteps: int,
    trajectories: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Form]:
    """{"denoising", "consistency", "printed": Form}, T network evaluations per trajectory."""
    if not 1 <= num_timesteps <= MAX_TIMESTEPS:
        raise ConfigError(f"num_timesteps={num_timesteps}: choose T in 1..{MAX_TIMESTEPS}")
    if trajectories < 2:
        raise ConfigError(f"trajectories={trajectories}: a variance needs at least 2")
    batches = list(batches)
    walk = make_walk(model, num_timesteps, seed, mesh)
    found = []
    for number, batch in enumerate(batches):
        placed, mask, rows = place_batch(batch, mesh), np.asarray(batch.mask), []
        for trajectory in range(trajectories):
            rows.append(_forms(walk(params, placed, trajectory), mask))
            progress(number * trajectories + trajectory + 1, len(batches) * trajectories)
        found.append(rows)
    return {name: _join([[row[name] for row in rows] for rows in found]) for name in found[0][0]}


def _forms(walk: Walk, mask: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """{form: (ends, matching, squares)}, each [images that are not padding]."""
    priors = (walk.prior_matching, walk.prior_consistency, walk.prior_consistency)
    terms = (walk.costs[name] for name in ("matching", "consistency", "printed"))
    return {
        name: (
            (walk.reconstruction + prior + walk.auxiliary)[mask],
            term.sum(axis=1)[mask],
            term.shape[1] * np.square(term).sum(axis=1)[mask],
        )
        for name, prior, term in zip(
            ("denoising", "consistency", "printed"), priors, terms, strict=True
        )
    }


def _join(batches: list[list[tuple[np.ndarray, ...]]]) -> Form:
    """[batch][trajectory] -> Form."""
    parts = (
        np.concatenate([np.stack([row[i] for row in rows]) for rows in batches], axis=1)
        for i in range(3)
    )
    return Form(*parts)
