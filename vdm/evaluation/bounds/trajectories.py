"""Whole trajectories z_0, z_{1/T}, ..., z_1 ~ q(.|x), and the terms of bounds along their T steps.

A trajectory is represented by its noise eps_t = (z_t - alpha_t x)/sigma_t, whose distribution depends
on neither x nor the network. Let d = gamma_t - gamma_s be the exact increment of a step s < t, and
c = -expm1(-d):

    (1)  q(z_t|z_s):    eps_t = exp(-d/2) eps_s + sqrt(c) eta,       eta ~ N(0, I)
    (2)  q(z_s|z_t,x):  eps_s = exp(-d/2) eps_t + sqrt(c) eta_back
    (3)  p(z_s|z_t):    the same as (2) with eta_back + delta in place of eta_back,
                        delta = sqrt(expm1(d)) (eps_hat_t - eps_t)

so the model sees the innovation eta_back + delta where q has eta_back. With c' and eta' those of the
step before, r to s (c' = 1 and eta' = eps_0 at s = 0), the term of the step from t back to s is, in
nats,

    (4)  KL(q(z_s|z_t,x) || p(z_s|z_t))    = 1/2 |delta|^2
    (5)  log q(z_s|z_t,x) - log p(z_s|z_t) = 1/2 |delta|^2 + eta_back . delta
    (6)  log q(z_s|z_r) - log p(z_s|z_t)   = 1/2 sum((eta_back + delta)^2 - eta'^2 + ln(c/c')),  r < s
    (7)  KL(q(z_s|z_r) || p(z_s|z_t))
             = 1/2 sum(ln(c/c') + c'/c + (eta_back + delta - sqrt(c'/c) eta')^2 - 1)

(4) is denoising matching and (6) the consistency form of Luo 2022 (arXiv:2208.11970) as a joint
log-ratio (eq. 44). (7) is that form read as a KL divergence (eq. 45); it is no term of the bound,
because z_s and z_t are dependent given z_r. (5) is the step's factor of the importance weight.
Nothing is computed as the difference of two z, so that float32 is as accurate for a thousand steps as
for ten.

With a schedule that takes a context, everything is conditional on it; each trajectory keeps its own.

Axes: B images, n steps of a chunk, K trajectories per image, then H, W, C.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vdm import diffusion
from vdm.distributions import codes
from vdm.evaluation.bounds.noise_grid import GridNoiseLevels, grid_noise_levels
from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import alpha_squared, sigma_squared
from vdm.seeds import stream_key
from vdm.types import Batch, Index, Known, Params


class Position(NamedTuple):
    """The state of trajectories at one time t, carried from chunk to chunk of steps.

    Attributes:
      eps: noise of z_t [B,K,H,W,C].
      eta: innovation of (1) that the last step added [B,K,H,W,C].
    """

    eps: jax.Array
    eta: jax.Array


class StepCosts(NamedTuple):
    """The terms of every step in nats [B,n,K], summed over dimensions; 0 for steps beyond T.

    Attributes:
      matching: KL of denoising matching, (4).
      log_ratio: log q/p of the reverse transitions at the trajectory, (5).
      consistency: log q/p of forward against reverse transition, (6).
      consistency_kl: KL of forward against reverse transition, (7); no term of the bound.
    """

    matching: jax.Array
    log_ratio: jax.Array
    consistency: jax.Array
    consistency_kl: jax.Array


class EndCosts(NamedTuple):
    """The terms at t = 1 in nats [B,K]; 0 unless the chunk contains step T.

    Attributes:
      log_ratio: log q(z_1|x) - log p(z_1) at the trajectory's z_1.
      consistency: KL(q(z_1|z_s) || p(z_1)) for the last s, the prior term that belongs to (6).
    """

    log_ratio: jax.Array
    consistency: jax.Array


def innovations(seed: int, randomisation, index: Index, steps, weights, shape) -> jax.Array:
    """Draw eta ~ N(0, I) of (1) for images, steps and trajectories [B,n,K,H,W,C].

    Each draw depends on (seed, randomisation, image, trajectory, step) alone, so that chunks and
    batches of any size give the same trajectories.

    Args:
      seed, randomisation: select the noise; the second may be traced.
      index: position of each image in its split [B].
      steps: numbers of the steps, 1 .. T; 0 draws eps_0 [n].
      weights: numbers of the trajectories [K].
      shape: (H, W, C).
    """
    key = jax.random.fold_in(stream_key(seed, "paths"), randomisation)

    def draw(image, step, weight):
        draw_key = key
        for number in (image, weight, step):
            draw_key = jax.random.fold_in(draw_key, number)
        return jax.random.normal(draw_key, shape)

    over_weights = jax.vmap(draw, (None, None, 0))
    over_steps = jax.vmap(over_weights, (None, 0, None))
    return jax.vmap(over_steps, (0, None, None))(index, steps, weights)


def start(seed: int, randomisation, index: Index, weights, shape) -> Position:
    """Return trajectories at z_0, whose eps_0 is innovation number 0.

    Args:
      seed, randomisation, index, weights, shape: as in `innovations`.
    """
    eps_0 = innovations(seed, randomisation, index, jnp.zeros(1, jnp.int32), weights, shape)[:, 0]
    return Position(eps_0, eps_0)


def chunks(num_timesteps: int, batch_size: int, at_once: int) -> tuple[int, Iterator[np.int32]]:
    """Return (steps per chunk n, first step of each chunk) for chunks of about `at_once` latents.

    Args:
      num_timesteps: T.
      batch_size: trajectories that are advanced together, B K.
      at_once: latents per call of the network.
    """
    # The last chunk may reach beyond T, where terms are 0: one size compiles one program.
    size = max(1, min(num_timesteps, at_once // batch_size))
    return size, (np.int32(first) for first in range(1, num_timesteps + 1, size))


def advance(
    model: DiffusionModel,
    params: Params,
    batch: Batch,
    num_timesteps: int,
    position: Position,
    eta: jax.Array,
    steps: jax.Array,
    context: jax.Array | None = None,
) -> tuple[Position, StepCosts, EndCosts]:
    """Take trajectories through n consecutive steps, and return the terms of those steps.

    Args:
      model, params: the diffusion model.
      batch: images and conditioning [B].
      num_timesteps: T.
      position: trajectories at the time before the first step.
      eta: innovations of the steps, from `innovations` [B,n,K,H,W,C].
      steps: consecutive numbers of the steps [n]; those beyond T contribute 0.
      context: c of each image and trajectory [B,K,...]; None for a schedule without.

    Returns:
      (position after the last step, terms per step, terms at t = 1).
    """
    live = (steps <= num_timesteps)[None, :, None]
    last = (steps == num_timesteps)[None, :, None]

    # First the whole trajectory, which needs no network; then all n steps in one call of the network.
    grid = grid_noise_levels(model, params, steps, num_timesteps, context)
    eps = _trajectory(position.eps, eta, grid.increment)
    eps_before = jnp.concatenate([position.eps[:, None], eps[:, :-1]], axis=1)
    eta_before = jnp.concatenate([position.eta[:, None], eta[:, :-1]], axis=1)
    x = codes.bin_centres(batch.images, model.num_levels)[:, None, None]
    delta = jnp.sqrt(jnp.expm1(grid.increment)) * (
        predict(model, params, batch, x, grid.gamma, eps, context) - eps
    )

    # (2) solved for eta_back: the innovation with which q leads back from z_t to the z_s drawn.
    c = -jnp.expm1(-grid.increment)
    eta_back = (eps_before - jnp.exp(-0.5 * grid.increment) * eps) / jnp.sqrt(c)
    costs = _step_costs(delta, eta_back, eta_before, c, grid.c_before)
    ends = _end_costs(x, eps, eps_before, grid, c)

    # Steps beyond T were computed with the noise levels of T, and are dropped here.
    costs = StepCosts(*(jnp.where(live, value, 0.0) for value in costs))
    ends = EndCosts(*(jnp.sum(jnp.where(last, value, 0.0), axis=1) for value in ends))
    return Position(eps[:, -1], eta[:, -1]), costs, ends


def _trajectory(eps, eta, increment):
    """Return eps at the end of every step [B,n,K,H,W,C] from that before the first, by (1).

    A sequential loop, which is cheap because it calls no network.
    """
    decay = jnp.moveaxis(jnp.exp(-0.5 * increment), 1, 0)
    fresh = jnp.moveaxis(jnp.sqrt(-jnp.expm1(-increment)) * eta, 1, 0)

    def move(eps, step):
        eps = step[0] * eps + step[1]
        return eps, eps

    return jnp.moveaxis(jax.lax.scan(move, eps, (decay, fresh))[1], 0, 1)


def predict(model: DiffusionModel, params: Params, batch: Batch, x, gamma, eps, context):
    """Return eps_hat for every image, step and trajectory [B,n,K,H,W,C], in one call of the network.

    Args:
      model, params: the diffusion model.
      batch: its conditioning is that of each image [B].
      x: the images in [-1, 1] [B,1,1,H,W,C].
      gamma: noise level of each latent, broadcastable to eps.
      eps: noise of each latent [B,n,K,H,W,C].
      context: c of each image and trajectory [B,K,...]; None for a schedule without.
    """
    size = eps.shape[:3]
    gamma = jnp.broadcast_to(gamma, (*size, *gamma.shape[3:]))
    z = diffusion.diffuse(x, gamma, eps)
    flag = jnp.broadcast_to(jnp.asarray(batch.conditioning)[:, None, None], size)
    z, gamma, flag = (a.reshape(-1, *a.shape[3:]) for a in (z, gamma, flag))
    if context is not None:
        context = jnp.broadcast_to(context[:, None], (*size, context.shape[-1]))
        context = context.reshape(-1, context.shape[-1])
    known = Known(flag, context=context)
    return model.predict_eps(params, z, gamma, known).reshape(eps.shape)


def _step_costs(delta, eta_back, eta_before, c, c_before) -> StepCosts:
    """Return (4) to (7) of every step [B,n,K]; the arguments are the module's, [B,n,K,H,W,C]."""
    log_c_ratio = jnp.broadcast_to(jnp.log(c / c_before), delta.shape)
    variance_ratio = c_before / c
    gap = eta_back + delta - jnp.sqrt(variance_ratio) * eta_before
    return StepCosts(
        matching=0.5 * _sum(jnp.square(delta)),
        log_ratio=_sum(0.5 * jnp.square(delta) + eta_back * delta),
        consistency=0.5 * _sum(jnp.square(eta_back + delta) - jnp.square(eta_before) + log_c_ratio),
        consistency_kl=0.5 * _sum(log_c_ratio + variance_ratio + jnp.square(gap) - 1.0),
    )


def _end_costs(x, eps, eps_before, grid: GridNoiseLevels, c) -> EndCosts:
    """Return both prior terms as if each step were the last [B,n,K], for p(z_1) = N(0, I)."""
    alpha, variance = jnp.sqrt(alpha_squared(grid.gamma)), sigma_squared(grid.gamma)
    # ln sigma^2 = -softplus(-gamma): the log of a sigma^2 near 1 would lose its digits.
    log_variance = jnp.broadcast_to(-jax.nn.softplus(-grid.gamma), eps.shape)
    z = alpha * x + jnp.sqrt(variance) * eps
    # q(z_1|z_s) has this mean and variance c sigma_1^2.
    mean = alpha * x + jnp.sqrt(variance) * jnp.exp(-0.5 * grid.increment) * eps_before
    kl = jnp.square(mean) + c * variance - 1.0 - log_variance - jnp.log(c)
    return EndCosts(
        log_ratio=0.5 * _sum(jnp.square(z) - jnp.square(eps) - log_variance),
        consistency=0.5 * _sum(kl),
    )


def _sum(per_dim):
    """Return the sum over H, W and C."""
    return jnp.sum(per_dim, axis=(-3, -2, -1))
