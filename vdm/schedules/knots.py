"""Knots of a schedule that is defined piece by piece: 0 = x_0 < x_1 < ... < x_K < x_(K+1) = 1."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdm.errors import ConfigError

MIN_RISE = 1e-3
"""A learned piece keeps this share of its even size, so that gamma stays strictly increasing."""
NARROWEST = 1e-5
"""Knots closer than this are not apart in float32."""


def start_at(
    name: str, num_knots: int, times: Sequence[float] | None, shares: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(times, shares), both with their ends 0 and 1: where a schedule's knots start.

    Args:
      name: the schedule's, for the message.
      num_knots: K, if neither is given: evenly spaced, on the straight line.
      times: of the inner knots; None = evenly spaced.
      shares: of the way from gamma_0 to gamma_1 at the inner knots; None = as the times.

    Raises:
      ConfigError: fewer than one knot, knots out of order, values not strictly increasing.
    """
    given = {"times": times, "shares": shares}
    field, known = next(((f, v) for f, v in given.items() if v is not None), ("num_knots", None))
    count = num_knots if known is None else len(known)
    if count < 1:
        raise ConfigError(
            f"schedule.{name}.{field}={known or count}: a shape needs at least 1 knot"
        )
    times = [k / (count + 1) for k in range(1, count + 1)] if times is None else times
    shares = times if shares is None else shares
    if len(times) != len(shares):
        raise ConfigError(
            f"schedule.{name}.shares: {len(shares)} values for {len(times)} knots; give as many"
        )
    for field, values in (("times", times), ("shares", shares)):
        steps = np.diff([0.0, *map(float, values), 1.0])
        if not np.all(steps >= NARROWEST):
            raise ConfigError(
                f"schedule.{name}.{field}={tuple(values)}: must increase strictly from above 0 to "
                f"below 1, in steps of at least {NARROWEST:g}"
            )
    return (0.0, *map(float, times), 1.0), (0.0, *map(float, shares), 1.0)


def logits(edges: Sequence[float]) -> jax.Array:
    """What `learned_edges` turns into these edges, as far as MIN_RISE allows [K + 1]."""
    sizes = np.diff(edges)
    sizes = (sizes - MIN_RISE / len(sizes)) / (1.0 - MIN_RISE)
    return jnp.asarray(np.log(np.maximum(sizes, 1e-6)), jnp.float32)


def learned_edges(logits: jax.Array) -> jax.Array:
    """Edges whose distances are softmax(logits), each kept above its minimum [K + 2]."""
    sizes = MIN_RISE / len(logits) + (1.0 - MIN_RISE) * jax.nn.softmax(logits)
    # 0 and 1 are constants: a sum of floats would only nearly be 1.
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(sizes)[:-1], jnp.ones(1)])


def piece(edges: jax.Array, t: jax.Array) -> jax.Array:
    """The piece k that t [B,1,1,1] lies in, x_k <= t < x_(k+1), with t = 1 in the last."""
    return jnp.sum(t >= edges[None, None, None, 1:-1], axis=-1, keepdims=True)


def overlaps(edges: jax.Array, s: jax.Array, width: float) -> jax.Array:
    """How much of [s, s + width] lies in each piece [B,1,1,K+1], adding up to exactly `width`.

    A step inside one piece gets `width` itself, not a difference of two close times.
    """
    before = jnp.clip(edges[None, None, None, 1:-1] - s, 0.0, width)
    before = jnp.concatenate([jnp.zeros_like(s), before, jnp.full_like(s, width)], axis=-1)
    return jnp.diff(before, axis=-1)
