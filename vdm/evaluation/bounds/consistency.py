"""L_T by the consistency form: forward against reverse transitions along one trajectory (Luo 2022)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.distributions import value_of
from vdm.evaluation.bounds import trajectories
from vdm.evaluation.bounds.base import (
    Bound,
    draw_contexts,
    end_terms,
    from_terms,
    images_at_once,
)
from vdm.runtime.devices import batch_sharding, replicated, to_host
from vdm.types import TERM_NAMES


@dataclasses.dataclass(frozen=True)
class Consistency(Bound):
    """L_T = reconstruction + E KL(q(z_1|z_s) || p(z_1)) + sum E[log q(z_t|z_s) - log p(z_t|z_u)].

    The consistency form of Luo 2022 (arXiv:2208.11970, eq. 44), s < t < u neighbours on the grid, as a
    *joint* log-ratio over (z_s, z_t, z_u), whose terms may be negative: (6) of
    `vdm.evaluation.bounds.trajectories`. Its expectation is the L_T of `Dense`. The sum of all T terms
    of one trajectory varies less than that of denoising matching, a single term far more.

    T network evaluations per image; values in nats. A context c ~ q(c|x) of the schedule is drawn once
    per image, and its KL is the auxiliary term.
    """

    name: ClassVar[str] = "consistency"
    default_timesteps: ClassVar[int] = 100
    randomisations: ClassVar[int] = 1
    takes_context: ClassVar[bool] = True

    def network_evaluations(self):
        return self.num_timesteps

    def make_step(self, model, seed, mesh):
        trajectory_terms = make_trajectory_terms(model, self.num_timesteps, seed, mesh)
        row = f"T = {self.num_timesteps}, consistency form"

        def step(params, batch, randomisation):
            along = trajectory_terms(params, batch, randomisation)
            # Under the names of the ELBO's terms, so that tables of all bounds have the same columns.
            values = (
                along.reconstruction,
                along.prior_consistency,
                along.steps["consistency"].sum(1),
            )
            terms = dict(zip(TERM_NAMES[:3], values, strict=True))
            terms["auxiliary"] = along.auxiliary
            return from_terms(row, terms, self.num_timesteps)

        return step


@dataclasses.dataclass(frozen=True)
class TrajectoryTerms:
    """All terms of both decompositions along one trajectory of each image, nats, float64.

    Attributes:
      reconstruction: -log p(x|z_0), in expectation where the schedule has one gamma_0 [B].
      prior_matching: KL(q(z_1|x) || p(z_1)) [B].
      prior_consistency: KL(q(z_1|z_s) || p(z_1)) [B].
      auxiliary: KL(q(c|x) || p(c)) of the context; 0 without one [B].
      steps: {field of `trajectories.StepCosts`: its value at every step [B,T]}.
    """

    reconstruction: np.ndarray
    prior_matching: np.ndarray
    prior_consistency: np.ndarray
    auxiliary: np.ndarray
    steps: dict[str, np.ndarray]


def make_trajectory_terms(model, num_timesteps: int, seed: int, mesh):
    """Return the compiled function (params, batch, randomisation) -> TrajectoryTerms.

    Steps are evaluated in chunks of about `images_at_once()` latents.

    Args:
      model: a `DiffusionModel`.
      num_timesteps: T.
      seed: random seed of all noise.
      mesh: the devices; each batch must divide evenly.
    """
    # One trajectory per image, number 0, so that its noise is that of the first weight of "iwae".
    one = jnp.zeros(1, jnp.int32)
    sharded, everywhere = batch_sharding(mesh), replicated(mesh)

    def begin(params, batch, randomisation):
        position = trajectories.start(seed, randomisation, batch.index, one, model.shape)
        context = draw_contexts(model, params, batch, seed, randomisation, one)
        value = value_of(context)
        first = None if value is None else value[:, 0]
        gamma_0, gamma_1 = model.end_gammas(params, first)
        ends = end_terms(model, batch.images, gamma_0, gamma_1, position.eps[:, 0])
        auxiliary = jnp.zeros(len(batch.index)) if context is None else context.kl[:, 0]
        return position, value, (*ends, auxiliary)

    def advance(params, batch, position, context, randomisation, steps):
        eta = trajectories.innovations(seed, randomisation, batch.index, steps, one, model.shape)
        return trajectories.advance(
            model, params, batch, num_timesteps, position, eta, steps, context
        )

    begin = jax.jit(
        begin,
        in_shardings=(everywhere, sharded, None),
        out_shardings=(sharded, sharded, everywhere),
    )
    # Positions stay sharded on the devices from chunk to chunk; only terms come back.
    advance = jax.jit(
        advance,
        in_shardings=(everywhere, sharded, sharded, sharded, None, None),
        out_shardings=(sharded, everywhere, everywhere),
    )

    def trajectory_terms(params, batch, randomisation) -> TrajectoryTerms:
        number = np.int32(randomisation)
        size, firsts = trajectories.chunks(num_timesteps, len(batch.index), images_at_once())
        position, context, ends = begin(params, batch, number)

        # Sums over steps are taken in float64 on the host: the terms span orders of magnitude.
        chunk_costs, prior_consistency = [], np.zeros(len(batch.index))
        for first in firsts:
            steps = first + np.arange(size, dtype=np.int32)
            position, costs, end = advance(params, batch, position, context, number, steps)
            chunk_costs.append([np.asarray(cost, np.float64)[:, :, 0] for cost in to_host(costs)])
            prior_consistency = (
                prior_consistency + np.asarray(to_host(end.consistency), np.float64)[:, 0]
            )

        # The last chunk may reach beyond T.
        joined = (
            np.concatenate(chunks, axis=1)[:, :num_timesteps]
            for chunks in zip(*chunk_costs, strict=True)
        )
        reconstruction, prior_matching, auxiliary = (
            np.asarray(value, np.float64) for value in to_host(ends)
        )
        by_name = dict(zip(trajectories.StepCosts._fields, joined, strict=True))
        return TrajectoryTerms(
            reconstruction, prior_matching, prior_consistency, auxiliary, by_name
        )

    return trajectory_terms
