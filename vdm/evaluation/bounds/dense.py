"""The bound of T steps from every one of its T terms, instead of a few steps drawn at random."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.distributions import codes, value_of
from vdm.evaluation.bounds import trajectories
from vdm.evaluation.bounds.base import Bound, draw_contexts, end_terms, from_terms, images_at_once
from vdm.evaluation.bounds.noise_grid import grid_noise_levels
from vdm.runtime.devices import batch_sharding, replicated, to_host


@dataclasses.dataclass(frozen=True)
class Dense(Bound):
    """L_T = sum_i 1/2 expm1(gamma_i - gamma_{i-1}) |eps_i - eps_hat|^2 + reconstruction + prior
    matching.

    Kingma et al. 2021 (arXiv:2107.00630), eq. 13 and 14, for the model of T steps. The increments are
    the schedule's exact ones. Every step has independent noise eps_i, so that the sum varies less
    than along one trajectory, whose terms are correlated.

    T network evaluations per image; values in nats. A context c ~ q(c|x) of the schedule is drawn once
    per image, and its KL is the auxiliary term.
    """

    name: ClassVar[str] = "dense"
    default_timesteps: ClassVar[int] = 100
    takes_context: ClassVar[bool] = True

    def network_evaluations(self):
        return self.num_timesteps

    def make_step(self, model, seed, mesh):
        shardings = (replicated(mesh), batch_sharding(mesh), None, None)
        out = replicated(mesh)

        def matching(params, batch, randomisation, steps):
            return jnp.sum(
                _terms(model, params, batch, self.num_timesteps, seed, randomisation, steps), 1
            )

        def ends(params, batch, randomisation):
            # eps_0 is innovation number 0, so that it is that of the other bounds' trajectory.
            context = _context(model, params, batch, seed, randomisation)
            value = None if context is None else context.value[:, 0]
            gamma_0, gamma_1 = model.end_gammas(params, value)
            zero, one = jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32)
            shape = model.shape
            eps_0 = trajectories.innovations(seed, randomisation, batch.index, zero, one, shape)[
                :, 0, 0
            ]
            auxiliary = jnp.zeros(len(batch.index)) if context is None else context.kl[:, 0]
            return *end_terms(model, batch.images, gamma_0, gamma_1, eps_0), auxiliary

        matching = jax.jit(matching, in_shardings=shardings, out_shardings=out)
        ends = jax.jit(ends, in_shardings=shardings[:3], out_shardings=out)

        def step(params, batch, randomisation):
            number = np.int32(randomisation)
            size, firsts = trajectories.chunks(
                self.num_timesteps, len(batch.index), images_at_once()
            )
            # Chunks of steps, whose sums are added in float64.
            chunk_sums = [
                to_host(matching(params, batch, number, first + np.arange(size, dtype=np.int32)))
                for first in firsts
            ]
            reconstruction, prior, auxiliary = to_host(ends(params, batch, number))
            terms = {
                "reconstruction": reconstruction,
                "prior_matching": prior,
                "denoising_matching": np.sum(np.asarray(chunk_sums, np.float64), axis=0),
                "auxiliary": auxiliary,
            }
            row = f"T = {self.num_timesteps}, every term"
            return from_terms(row, terms, self.num_timesteps)

        return step


def _terms(model, params, batch, num_timesteps, seed, randomisation, steps):
    """Return 1/2 expm1(increment) |eps - eps_hat|^2 of every image and step [B,n], nats.

    Args:
      model, params: the diffusion model.
      batch: images and conditioning [B].
      num_timesteps: T.
      seed, randomisation: select the noise.
      steps: numbers of the steps [n]; those beyond T give 0.
    """
    live = steps <= num_timesteps
    steps = jnp.minimum(steps, num_timesteps)
    first = jnp.zeros(1, jnp.int32)
    eps = trajectories.innovations(seed, randomisation, batch.index, steps, first, model.shape)
    context = value_of(_context(model, params, batch, seed, randomisation))
    grid = grid_noise_levels(model, params, steps, num_timesteps, context)
    x = codes.bin_centres(batch.images, model.num_levels)[:, None, None]
    eps_hat = trajectories.predict(model, params, batch, x, grid.gamma, eps, context)
    weight = 0.5 * jnp.expm1(grid.increment)
    nats = jnp.sum(weight * jnp.square(eps - eps_hat), axis=(2, 3, 4, 5))
    return jnp.where(live[None], nats, 0.0)


def _context(model, params, batch, seed, randomisation):
    """Draw the context of each image [B,1,...], the same for all steps; None without one."""
    return draw_contexts(model, params, batch, seed, randomisation, jnp.zeros(1, jnp.int32))
