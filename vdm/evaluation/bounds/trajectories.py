"""Whole trajectories z_0, z_1/T, ..., z_1 ~ q(.|x), and what each bound takes from their steps.

In terms of the noise eps_t = (z_t - alpha_t x)/sigma_t a trajectory knows neither x nor the network.
With the exact increment d = gamma_t - gamma_s of a step s < t and c = -expm1(-d),

    (1)  q(z_t|z_s):    eps_t = exp(-d/2) eps_s + sqrt(c) eta,       eta ~ N(0, I)
    (2)  q(z_s|z_t,x):  eps_s = exp(-d/2) eps_t + sqrt(c) eta_back
    (3)  p(z_s|z_t):    the same as (2) with eta_back + delta in place of eta_back,
                        delta = sqrt(expm1(d)) (eps_hat_t - eps_t)

so eta_back + delta is what a step looks like to the model. In nats, with the next earlier step's c' and
eta' (c' = 1, eta' = eps_0 at s = 0), a step from t back to s costs

    (4)  KL(q(z_s|z_t,x) || p(z_s|z_t))    = 1/2 |delta|^2
    (5)  log q(z_s|z_t,x) - log p(z_s|z_t) = 1/2 |delta|^2 + eta_back . delta
    (6)  log q(z_s|z_r) - log p(z_s|z_t)   = 1/2 sum((eta_back + delta)^2 - eta'^2 + ln(c/c')),  r < s
    (7)  KL(q(z_s|z_r) || p(z_s|z_t))
             = 1/2 sum(ln(c/c') + c'/c + (eta_back + delta - sqrt(c'/c) eta')^2 - 1)

(4) is denoising matching and (6) the consistency form of Luo 2022, as a joint log-ratio (eq. 44-45).
(7) is how that form is printed; it is no term of the bound, because z_r and z_t are dependent.
No number is the difference of two z, so that float32 serves a thousand steps as well as ten.

All of it is given a context c where the schedule takes one; each trajectory keeps its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vdm import diffusion
from vdm.distributions import codes
from vdm.models.diffusion_model import DiffusionModel
from vdm.schedules.base import alpha_squared, sigma_squared, step_times
from vdm.seeds import stream_key
from vdm.types import Batch, Index, Known, Params


class Position(NamedTuple):
    """Where trajectories stand between two chunks.

    Attributes:
      eps: of z_t [B,K,H,W,C].
      eta: the innovation of (1) that led there.
    """

    eps: jax.Array
    eta: jax.Array


class StepCosts(NamedTuple):
    """Nats per step [B,n,K]; 0 for steps beyond T.

    Attributes:
      matching: (4).
      log_ratio: (5).
      consistency: (6).
      printed: (7).
    """

    matching: jax.Array
    log_ratio: jax.Array
    consistency: jax.Array
    printed: jax.Array


class EndCosts(NamedTuple):
    """What is paid at t = 1, nats [B,K]; 0 unless the chunk holds step T.

    Attributes:
      log_ratio: log q(z_1|x) - log p(z_1) at the trajectory's z_1.
      consistency: KL(q(z_1|z_s) || p(z_1)) for the last s, the prior term that belongs to (6).
    """

    log_ratio: jax.Array
    consistency: jax.Array


def innovations(seed: int, randomisation, index: Index, steps, weights, shape) -> jax.Array:
    """N(0, I) draws [B,n,K,H,W,C] of images, steps [n] and trajectories [K].

    Each depends on (seed, randomisation, image, trajectory, step) alone.
    """
    key = jax.random.fold_in(stream_key(seed, "paths"), randomisation)

    def draw(image, step, weight):
        own = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, image), weight), step)
        return jax.random.normal(own, shape)

    over_weights = jax.vmap(draw, (None, None, 0))
    over_steps = jax.vmap(over_weights, (None, 0, None))
    return jax.vmap(over_steps, (0, None, None))(index, steps, weights)


def start(seed: int, randomisation, index: Index, weights, shape) -> Position:
    """Trajectories at z_0, whose noise is innovation number 0."""
    eps_0 = innovations(seed, randomisation, index, jnp.zeros(1, jnp.int32), weights, shape)[:, 0]
    return Position(eps_0, eps_0)


def chunks(num_timesteps: int, batch_size: int, at_once: int) -> tuple[int, Iterator[np.int32]]:
    """(steps per chunk, first step of each), so that a chunk holds about `at_once` latents."""
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
    """`position` taken through `steps` [n], which follow on each other, by innovations `eta`.

    `context`: of each image and trajectory [B,K,...], for a schedule that takes one.
    """
    live = (steps <= num_timesteps)[None, :, None]
    last = (steps == num_timesteps)[None, :, None]
    at = levels(model, params, steps, num_timesteps, context)
    eps = _trajectory(position.eps, eta, at.increment)
    before = jnp.concatenate([position.eps[:, None], eps[:, :-1]], axis=1)
    eta_before = jnp.concatenate([position.eta[:, None], eta[:, :-1]], axis=1)
    x = codes.bin_centres(batch.images, model.num_levels)[:, None, None]
    delta = jnp.sqrt(jnp.expm1(at.increment)) * (
        predict(model, params, batch, x, at.gamma, eps, context) - eps
    )
    share = -jnp.expm1(-at.increment)
    back = (before - jnp.exp(-0.5 * at.increment) * eps) / jnp.sqrt(share)
    costs = _step_costs(delta, back, eta_before, share, at.share_before)
    ends = _end_costs(x, eps, before, at, share)
    costs = StepCosts(*(jnp.where(live, value, 0.0) for value in costs))
    ends = EndCosts(*(jnp.sum(jnp.where(last, value, 0.0), axis=1) for value in ends))
    return Position(eps[:, -1], eta[:, -1]), costs, ends


class Levels(NamedTuple):
    """Of each step, broadcastable to [B,n,K,H,W,C]; share_before is c of the step before."""

    gamma: jax.Array
    increment: jax.Array
    share_before: jax.Array


def levels(model: DiffusionModel, params: Params, steps, num_timesteps: int, context) -> Levels:
    """At steps [n], for contexts [B,K,...] or None."""
    if context is None:
        found = _levels_of(model, params, steps, num_timesteps, None)
        return Levels(*(value[None, :, None] for value in found))

    def of_one(c):
        # A schedule takes a context per time; here one has all n times.
        shared = jnp.broadcast_to(c[None], (len(steps), len(c)))
        return _levels_of(model, params, steps, num_timesteps, shared)

    return jax.vmap(jax.vmap(of_one, out_axes=1))(context)


def _levels_of(model: DiffusionModel, params: Params, steps, num_timesteps: int, context) -> Levels:
    """At steps [n], in all [n,...]."""
    steps = jnp.minimum(steps, num_timesteps)
    before = model.gamma_increment(params, jnp.maximum(steps - 1, 1), num_timesteps, context)
    first = (steps == 1)[:, None, None, None]
    return Levels(
        model.gamma(params, step_times(steps, num_timesteps)[0], context),
        model.gamma_increment(params, steps, num_timesteps, context),
        jnp.where(first, 1.0, -jnp.expm1(-before)),  # q(z_0|x) takes the place of a step's q
    )


def _trajectory(eps, eta, increment):
    """Equation (1), step after step; no network, so that a loop costs nothing."""
    keep = jnp.moveaxis(jnp.exp(-0.5 * increment), 1, 0)
    fresh = jnp.moveaxis(jnp.sqrt(-jnp.expm1(-increment)) * eta, 1, 0)

    def move(eps, step):
        eps = step[0] * eps + step[1]
        return eps, eps

    return jnp.moveaxis(jax.lax.scan(move, eps, (keep, fresh))[1], 0, 1)


def predict(model: DiffusionModel, params: Params, batch: Batch, x, gamma, eps, context):
    """eps_hat at every image, step and trajectory, in one call of the network."""
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


def _step_costs(delta, back, eta_before, share, share_before) -> StepCosts:
    log_share = jnp.broadcast_to(jnp.log(share / share_before), delta.shape)
    ratio = share_before / share
    gap = back + delta - jnp.sqrt(ratio) * eta_before
    return StepCosts(
        matching=0.5 * _sum(jnp.square(delta)),
        log_ratio=_sum(0.5 * jnp.square(delta) + back * delta),
        consistency=0.5 * _sum(jnp.square(back + delta) - jnp.square(eta_before) + log_share),
        printed=0.5 * _sum(log_share + ratio + jnp.square(gap) - 1.0),
    )


def _end_costs(x, eps, before, levels: Levels, share) -> EndCosts:
    alpha, variance = jnp.sqrt(alpha_squared(levels.gamma)), sigma_squared(levels.gamma)
    log_variance = jnp.broadcast_to(-jax.nn.softplus(-levels.gamma), eps.shape)
    z = alpha * x + jnp.sqrt(variance) * eps
    mean = alpha * x + jnp.sqrt(variance) * jnp.exp(-0.5 * levels.increment) * before
    kl = jnp.square(mean) + share * variance - 1.0 - log_variance - jnp.log(share)
    return EndCosts(
        log_ratio=0.5 * _sum(jnp.square(z) - jnp.square(eps) - log_variance),
        consistency=0.5 * _sum(kl),
    )


def _sum(per_dim):
    return jnp.sum(per_dim, axis=(-3, -2, -1))
