"""The importance weighted bound over whole trajectories (Burda et al. 2016, IWAE), for T steps."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vdm.distributions import codes, value_of
from vdm.evaluation.bounds import trajectories
from vdm.evaluation.bounds.base import Bound, BoundValues, draw_contexts, images_at_once
from vdm.runtime.devices import batch_sharding, replicated, to_host

MAX_WEIGHTS = 4096


def check_weights(bound: Bound, num_weights: int) -> None:
    """ConfigError unless a power of two in range, so that groups nest."""
    if not 1 <= num_weights <= MAX_WEIGHTS or num_weights & (num_weights - 1):
        bound.refuse("num_weights", f"choose a power of two in 1..{MAX_WEIGHTS}")


def nested_bounds(log_weights: np.ndarray) -> dict[int, np.ndarray]:
    """{K: -log 1/K sum_k w_k of each group of K} for K = 1, 2, 4, ...; [..., K_max] -> [..., K_max/K].

    Two groups are joined by log((u + v)/2) = (log u + log v)/2 + log cosh((log u - log v)/2), whose
    second part is not negative. So the means over groups, taken by `mean_over_groups`, do not increase
    with K, in floating point either.
    """
    value = -np.asarray(log_weights, np.float64)
    found, size = {1: value}, 1
    while value.shape[-1] > 1:
        one, other = value[..., 0::2], value[..., 1::2]
        gap = np.abs(one - other)
        log_cosh = np.maximum(0.5 * gap + np.log1p(np.exp(-gap)) - np.log(2.0), 0.0)
        value, size = 0.5 * (one + other) - log_cosh, 2 * size
        found[size] = value
    return found


def mean_over_groups(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, neighbours first, which keeps the order of nested bounds exactly."""
    while values.shape[-1] > 1:
        values = 0.5 * (values[..., 0::2] + values[..., 1::2])
    return values[..., 0]


@dataclasses.dataclass(frozen=True)
class ImportanceWeighted(Bound):
    """-E log 1/K sum_k w_k,  w = p(x|z_0) p(z_1)/q(z_1|x) prod p(z_s|z_t)/q(z_s|z_t,x).

    K trajectories of T steps for each image; K = 1 is L_T. Values for K = 1, 2, 4, ..., K_max come
    from nested groups of the same K_max weights. By theorem it does not increase with K, and only
    relates to L_T of the same T. With a context each trajectory draws its own c ~ q(c|x), and the
    weight has the factor p(c)/q(c|x) at that c.

    Attributes:
      num_weights: K_max.
    """

    name: ClassVar[str] = "iwae"
    default_timesteps: ClassVar[int] = 100
    randomisations: ClassVar[int] = 1
    takes_context: ClassVar[bool] = True

    num_weights: int = 16

    def __post_init__(self):
        super().__post_init__()
        check_weights(self, self.num_weights)

    def network_evaluations(self):
        return self.num_weights * self.num_timesteps

    def make_step(self, model, seed, mesh):
        sharded, everywhere = batch_sharding(mesh), replicated(mesh)

        def begin(params, batch, randomisation, weights):
            position = trajectories.start(seed, randomisation, batch.index, weights, model.shape)
            context = draw_contexts(model, params, batch, seed, randomisation, weights)
            surprise = _surprise(model, params, batch, position.eps, context)
            return position, value_of(context), surprise

        def go_on(params, batch, position, context, randomisation, weights, steps):
            shape = model.shape
            eta = trajectories.innovations(seed, randomisation, batch.index, steps, weights, shape)
            position, costs, ends = trajectories.advance(
                model, params, batch, self.num_timesteps, position, eta, steps, context
            )
            return position, jnp.sum(costs.log_ratio, axis=1) + ends.log_ratio

        begin = jax.jit(
            begin,
            in_shardings=(everywhere, sharded, None, None),
            out_shardings=(sharded, sharded, everywhere),
        )
        go_on = jax.jit(
            go_on,
            in_shardings=(everywhere, sharded, sharded, sharded, None, None, None),
            out_shardings=(sharded, everywhere),
        )

        def log_weights(params, batch, randomisation, weights):
            """[B, chunk of K], float64."""
            number = np.int32(randomisation)
            rows = len(batch.index) * len(weights)
            size, firsts = trajectories.chunks(self.num_timesteps, rows, images_at_once())
            position, context, surprise = begin(params, batch, number, weights)
            total = np.asarray(to_host(surprise), np.float64)
            for first in firsts:
                steps = first + np.arange(size, dtype=np.int32)
                position, cost = go_on(params, batch, position, context, number, weights, steps)
                total = total + np.asarray(to_host(cost), np.float64)
            return -total

        def step(params, batch, randomisation):
            at_once = _weights_at_once(self.num_weights, len(batch.index))
            parts = [
                log_weights(params, batch, randomisation, k + np.arange(at_once, dtype=np.int32))
                for k in range(0, self.num_weights, at_once)
            ]
            groups = nested_bounds(np.concatenate(parts, axis=1))
            rows = {f"T = {self.num_timesteps}, K = {k}": v.T for k, v in groups.items()}
            size = len(batch.index)
            spent = np.full(size, self.network_evaluations())
            return BoundValues(rows, {}, spent, np.zeros(size, bool))

        return step


def _weights_at_once(num_weights: int, batch_size: int) -> int:
    """A power of two, so that chunks are equal."""
    fitting = max(1, images_at_once() // batch_size)
    return min(num_weights, 2 ** (fitting.bit_length() - 1))


def _surprise(model, params, batch, eps_0, context):
    """-log p(x|z_0) + log q(c|x) - log p(c) [B,K] at the trajectories' z_0 and c."""
    if context is None:
        gamma_0, _ = model.end_gammas(params)
    else:
        flat_context = context.value.reshape(-1, context.value.shape[-1])
        gamma_0, _ = model.end_gammas(params, flat_context)
    images = jnp.broadcast_to(jnp.asarray(batch.images)[:, None], eps_0.shape)
    flat, eps_0_flat = (a.reshape(-1, *model.shape) for a in (images, eps_0))
    z_0_rescaled = codes.bin_centres(flat, model.num_levels) + jnp.exp(0.5 * gamma_0) * eps_0_flat
    log_prob = codes.log_prob(flat, z_0_rescaled, gamma_0, model.num_levels)
    surprise = -jnp.sum(log_prob, axis=(1, 2, 3)).reshape(eps_0.shape[:2])
    return surprise if context is None else surprise + context.log_ratio
