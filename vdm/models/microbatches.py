"""Gradients of a batch in several parts, one after another: the same result in less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdm.models.means import Metrics
from vdm.types import Batch, Params, PRNGKey

LossFn = Callable[[Params, Batch, Any, PRNGKey], tuple[jax.Array, Metrics]]
"""(params, batch, noise, dropout key) -> (scalar to minimise, metrics)."""
GradientFn = Callable[[Params, Batch, Any, PRNGKey], tuple[Params, Metrics]]
"""(params, batch, noise, dropout key) -> (direction of ascent like params, metrics)."""


def split(tree: Any, num: int) -> Any:
    """Split arrays [B, ...] into [num, B/num, ...]; part k holds rows k, k + num, k + 2 num, ...

    A device holds neighbouring rows, so that with this stride every part has rows on every device and
    nothing moves between devices.
    """
    return jax.tree.map(
        lambda a: jnp.swapaxes(a.reshape(a.shape[0] // num, num, *a.shape[1:]), 0, 1), tree
    )


def join(tree: Any) -> Any:
    """Join parts [num, B/num, ...] to arrays [B, ...]: the inverse of `split`."""
    return jax.tree.map(
        lambda a: jnp.swapaxes(a, 0, 1).reshape(a.shape[0] * a.shape[1], *a.shape[2:]), tree
    )


def shares(mask: jax.Array) -> jax.Array:
    """Return the share of all unmasked images that each part holds, [num] float32.

    Args:
      mask: false for padding [num, B/num].
    """
    counts = jnp.sum(mask.astype(jnp.float32), axis=1)
    return counts / jnp.maximum(jnp.sum(counts), 1.0)


def average(function: Callable[..., tuple[Any, Any]], parts: tuple, weights: jax.Array) -> tuple:
    """Return (sum_k weights_k mean_k, rows joined) where (mean_k, rows_k) = function(*parts[k]).

    If the function returns means over a part's unmasked images and the weights are `shares`, the sum
    is the mean over the whole batch. The parts are visited in a loop: one at a time is in memory.
    """

    def add(total, inputs):
        weight, part = inputs
        mean, rows = function(*part)
        return jax.tree.map(lambda t, m: t + weight * m, total, mean), rows

    shapes = jax.eval_shape(function, *jax.tree.map(lambda a: a[0], parts))[0]
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, rows = jax.lax.scan(add, zeros, (weights, parts))
    return total, join(rows)


def gradient(loss_fn: LossFn, num_microbatches: int = 1) -> GradientFn:
    """Return the function (params, batch, noise, key) -> (gradient of the loss, its metrics).

    Args:
      loss_fn: (params, batch, noise, key) -> (a mean over unmasked images, metrics).
      num_microbatches: number of parts that a batch is taken in. Only dropout depends on it, which
        has a key per part.
    """

    def gradient_fn(params, batch, noise, key):
        def part(batch, noise, key):
            return jax.grad(loss_fn, has_aux=True)(params, batch, noise, key), ()

        if num_microbatches == 1:
            return part(batch, noise, key)[0]
        batch, noise = split((batch, noise), num_microbatches)
        keys = jax.random.split(key, num_microbatches)
        return average(part, (batch, noise, keys), shares(batch.mask))[0]

    return gradient_fn
