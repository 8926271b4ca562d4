"""The importance weighted bound (IWAE, Burda et al. 2015, arXiv:1509.00519) for models of T steps.

    -log p(x) <= -E log 1/K sum_k w_k <= L_T,     w_k = p(x, z_0, ..., z_1)/q(z_0, ..., z_1|x)

with the log weights of `vdm.evaluation.bounds.trajectories`, (5). The bound does not increase with K.
"""

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
"""Upper limit of K: K T network evaluations per image."""


def check_weights(bound: Bound, num_weights: int) -> None:
    """Raise a ConfigError unless K is a power of two in 1 .. MAX_WEIGHTS, so that groups nest."""
    if not 1 <= num_weights <= MAX_WEIGHTS or num_weights & (num_weights - 1):
        bound.refuse("num_weights", f"choose a power of two in 1..{MAX_WEIGHTS}")


def nested_bounds(log_weights: np.ndarray) -> dict[int, np.ndarray]:
    """Return {K: -log 1/K sum_k w_k of each group of K weights} for K = 1, 2, 4, ..., K_max.

    Groups of 2 K join two neighbouring groups of K, so that all K use the same weights, and
    differences between them have little noise. Two groups are joined by

        log((u + v)/2) = (log u + log v)/2 + log cosh((log u - log v)/2),

    whose second part is not negative: the means over groups, taken by `mean_over_groups`, do not
    increase with K, in floating point either.

    Args:
      log_weights: log w_k [..., K_max], K_max a power of two.

    Returns:
      {K: nats [..., K_max/K]}.
    """
    value = -np.asarray(log_weights, np.float64)
    bounds, size = {1: value}, 1
    while value.shape[-1] > 1:
        one, other = value[..., 0::2], value[..., 1::2]
        # log cosh(gap/2) without overflow; the rounding of exp could make it -1e-17, hence the maximum.
        gap = np.abs(one - other)
        log_cosh = np.maximum(0.5 * gap + np.log1p(np.exp(-gap)) - np.log(2.0), 0.0)
        value, size = 0.5 * (one + other) - log_cosh, 2 * size
        bounds[size] = value
    return bounds


def mean_over_groups(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis, a power of two long, by halving.

    Neighbours are added first, in the order in which `nested_bounds` joins groups, so that rounding
    cannot make the mean of a larger K exceed that of a smaller one.
    """
    while values.shape[-1] > 1:
        values = 0.5 * (values[..., 0::2] + values[..., 1::2])
    return values[..., 0]


@dataclasses.dataclass(frozen=True)
class ImportanceWeighted(Bound):
    """-E log 1/K sum_k w_k,  w = p(x|z_0) p(z_1)/q(z_1|x) prod p(z_s|z_t)/q(z_s|z_t,x).

    K independent trajectories of T steps for each image; K = 1 is L_T. One row per K = 1, 2, 4, ...,
    K_max, from nested groups of the same K_max weights. In expectation the bound does not increase with
    K (Burda et al., theorem 1). It is comparable with L_T of the same T only: another T is another
    model. With a context each trajectory draws c ~ q(c|x), and its weight has the factor p(c)/q(c|x).

    Attributes:
      num_weights: K_max, a power of two; K_max T network evaluations per image.
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
            start = _cost_at_start(model, params, batch, position.eps, context)
            return position, value_of(context), start

        def advance(params, batch, position, context, randomisation, weights, steps):
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
        # Positions stay sharded on the devices from chunk to chunk; only log weights come back.
        advance = jax.jit(
            advance,
            in_shardings=(everywhere, sharded, sharded, sharded, None, None, None),
            out_shardings=(sharded, everywhere),
        )

        def log_weights(params, batch, randomisation, weights):
            """Return log w of the trajectories with the numbers `weights` [k], float64 [B,k]."""
            number = np.int32(randomisation)
            rows = len(batch.index) * len(weights)
            size, firsts = trajectories.chunks(self.num_timesteps, rows, images_at_once())
            position, context, start = begin(params, batch, number, weights)

            # Added in float64: log w is a small difference of sums over T steps and D dimensions.
            total = np.asarray(to_host(start), np.float64)
            for first in firsts:
                steps = first + np.arange(size, dtype=np.int32)
                position, cost = advance(params, batch, position, context, number, weights, steps)
                total = total + np.asarray(to_host(cost), np.float64)
            return -total

        def step(params, batch, randomisation):
            at_once = _weights_at_once(self.num_weights, len(batch.index))
            chunks = [
                log_weights(params, batch, randomisation, k + np.arange(at_once, dtype=np.int32))
                for k in range(0, self.num_weights, at_once)
            ]
            groups = nested_bounds(np.concatenate(chunks, axis=1))
            rows = {f"T = {self.num_timesteps}, K = {k}": v.T for k, v in groups.items()}
            size = len(batch.index)
            spent = np.full(size, self.network_evaluations())
            return BoundValues(rows, {}, spent, np.zeros(size, bool))

        return step


def _weights_at_once(num_weights: int, batch_size: int) -> int:
    """Return the trajectories per chunk, a power of two, so that all chunks have one size."""
    fitting = max(1, images_at_once() // batch_size)
    return min(num_weights, 2 ** (fitting.bit_length() - 1))


def _cost_at_start(model, params, batch, eps_0, context):
    """Return -log p(x|z_0) + log q(c|x)/p(c) at the trajectories' z_0 and c [B,K], nats.

    Args:
      model, params: the diffusion model.
      batch: integer codes [B,H,W,C].
      eps_0: noise of z_0 [B,K,H,W,C].
      context: draws of c [B,K,...]; None for a model without.
    """
    if context is None:
        gamma_0, _ = model.end_gammas(params)
    else:
        flat_context = context.value.reshape(-1, context.value.shape[-1])
        gamma_0, _ = model.end_gammas(params, flat_context)
    images = jnp.broadcast_to(jnp.asarray(batch.images)[:, None], eps_0.shape)
    flat, eps_0_flat = (a.reshape(-1, *model.shape) for a in (images, eps_0))
    z_0_rescaled = codes.bin_centres(flat, model.num_levels) + jnp.exp(0.5 * gamma_0) * eps_0_flat
    log_prob = codes.log_prob(flat, z_0_rescaled, gamma_0, model.num_levels)
    reconstruction = -jnp.sum(log_prob, axis=(1, 2, 3)).reshape(eps_0.shape[:2])
    return reconstruction if context is None else reconstruction + context.log_ratio
