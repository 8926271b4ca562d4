"""L_T by Luo's first derivation: forward against reverse transitions along one trajectory."""

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

    The same L_T as `Dense`, by the consistency form of Luo 2022 (eq. 44) as a *joint* log-ratio over
    (z_s, z_t, z_u); single terms may be negative. All T terms of one trajectory together vary less
    than those of denoising matching, a single one far more. See `vdm.evaluation.bounds.trajectories`,
    (6).
    """

    name: ClassVar[str] = "consistency"
    default_timesteps: ClassVar[int] = 100
    randomisations: ClassVar[int] = 1
    takes_context: ClassVar[bool] = True

    def network_evaluations(self):
        return self.num_timesteps

    def make_step(self, model, seed, mesh):
        walk = make_walk(model, self.num_timesteps, seed, mesh)
        row = f"T = {self.num_timesteps}, consistency form"

        def step(params, batch, randomisation):
            found = walk(params, batch, randomisation)
            parts = (
                found.reconstruction,
                found.prior_consistency,
                found.costs["consistency"].sum(1),
            )
            terms = dict(zip(TERM_NAMES[:3], parts, strict=True))
            terms["auxiliary"] = found.auxiliary
            return from_terms(row, terms, self.num_timesteps)

        return step


@dataclasses.dataclass(frozen=True)
class Walk:
    """One trajectory of each image, in nats.

    Attributes:
      reconstruction: without noise [B].
      prior_matching: KL(q(z_1|x) || p(z_1)) [B].
      prior_consistency: KL(q(z_1|z_s) || p(z_1)) [B].
      auxiliary: the price of its context [B].
      costs: of every step, {field of `trajectories.StepCosts`: [B,T]}.
    """

    reconstruction: np.ndarray
    prior_matching: np.ndarray
    prior_consistency: np.ndarray
    auxiliary: np.ndarray
    costs: dict[str, np.ndarray]


def make_walk(model, num_timesteps: int, seed: int, mesh):
    """(params, batch, randomisation) -> Walk, in chunks of steps."""
    one = jnp.zeros(1, jnp.int32)
    sharded, everywhere = batch_sharding(mesh), replicated(mesh)

    def begin(params, batch, randomisation):
        position = trajectories.start(seed, randomisation, batch.index, one, model.shape)
        context = draw_contexts(model, params, batch, seed, randomisation, one)
        value = value_of(context)
        first = None if value is None else value[:, 0]
        gamma_0, gamma_1 = model.end_gammas(params, first)
        ends = end_terms(model, batch.images, gamma_0, gamma_1, position.eps[:, 0])
        price = jnp.zeros(len(batch.index)) if context is None else context.kl[:, 0]
        return position, value, (*ends, price)

    def go_on(params, batch, position, context, randomisation, steps):
        eta = trajectories.innovations(seed, randomisation, batch.index, steps, one, model.shape)
        return trajectories.advance(
            model, params, batch, num_timesteps, position, eta, steps, context
        )

    begin = jax.jit(
        begin,
        in_shardings=(everywhere, sharded, None),
        out_shardings=(sharded, sharded, everywhere),
    )
    go_on = jax.jit(
        go_on,
        in_shardings=(everywhere, sharded, sharded, sharded, None, None),
        out_shardings=(sharded, everywhere, everywhere),
    )

    def walk(params, batch, randomisation) -> Walk:
        number = np.int32(randomisation)
        size, firsts = trajectories.chunks(num_timesteps, len(batch.index), images_at_once())
        position, context, ends = begin(params, batch, number)
        costs, prior = [], np.zeros(len(batch.index))
        for first in firsts:
            steps = first + np.arange(size, dtype=np.int32)
            position, cost, end = go_on(params, batch, position, context, number, steps)
            costs.append([np.asarray(value, np.float64)[:, :, 0] for value in to_host(cost)])
            prior = prior + np.asarray(to_host(end.consistency), np.float64)[:, 0]
        joined = (np.concatenate(c, axis=1)[:, :num_timesteps] for c in zip(*costs, strict=True))
        reconstruction, matching, price = (np.asarray(v, np.float64) for v in to_host(ends))
        named = dict(zip(trajectories.StepCosts._fields, joined, strict=True))
        return Walk(reconstruction, matching, prior, price, named)

    return walk
