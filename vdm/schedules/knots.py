"""Knots of a schedule that is defined piece by piece: 0 = x_0 < x_1 < ... < x_K < x_(K+1) = 1."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdm.errors import ConfigError

MIN_RISE = 1e-3
"""Share of its even size that a learned piece keeps, so that gamma stays strictly increasing."""
NARROWEST = 1e-5
"""Least distance between two knots; closer ones coincide in float32."""


def start_at(
    name: str, num_knots: int, times: Sequence[float] | None, shares: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (times, shares) of a schedule's initial knots, ends 0 and 1 included, [K + 2] each.

    Args:
      name: the schedule's name, for messages.
      num_knots: number of inner knots K if neither list is given; they lie evenly on the straight
        line.
      times: times of the inner knots; None for evenly spaced ones.
      shares: shares r of the way from gamma_0 to gamma_1 at the inner knots; None for `times`,
        which is the straight line.

    Raises:
      ConfigError: fewer than one knot, lists of different lengths, or values that do not increase
        strictly.
    """

    # The number of knots follows from the first list that is given, whose name an error then
    # shows.
    given = {"times": times, "shares": shares}
    field, known = next(((f, v) for f, v in given.items() if v is not None), ("num_knots", None))
    count = num_knots if known is None else len(known)
    if count < 1:
        raise ConfigError(f"schedule.{name}.{field}={known or count}: choose at least 1 knot")

    # Shares default to the times, whatever these are: r = t at every knot.
    times = [k / (count + 1) for k in range(1, count + 1)] if times is None else times
    shares = times if shares is None else shares
    if len(times) != len(shares):
        raise ConfigError(
            f"schedule.{name}.shares: {len(shares)} values for {len(times)} knots; give as many"
        )

    # Both lists are judged with their ends 0 and 1, to which the outer knots may also come too
    # close.
    for field, values in (("times", times), ("shares", shares)):
        steps = np.diff([0.0, *map(float, values), 1.0])
        if not np.all(steps >= NARROWEST):
            raise ConfigError(
                f"schedule.{name}.{field}={tuple(values)}: must increase strictly from above 0 to "
                f"below 1, in steps of at least {NARROWEST:g}"
            )
    return (0.0, *map(float, times), 1.0), (0.0, *map(float, shares), 1.0)


def logits(edges: Sequence[float]) -> jax.Array:
    """Return the logits [K + 1] that `learned_edges` turns into `edges`, as far as MIN_RISE allows."""
    sizes = np.diff(edges)
    sizes = (sizes - MIN_RISE / len(sizes)) / (1.0 - MIN_RISE)
    return jnp.asarray(np.log(np.maximum(sizes, 1e-6)), jnp.float32)


def learned_edges(logits: jax.Array) -> jax.Array:
    """Return edges [K + 2] whose distances are softmax(logits), each kept above its minimum."""
    sizes = MIN_RISE / len(logits) + (1.0 - MIN_RISE) * jax.nn.softmax(logits)
    # 0 and 1 are constants: a sum of floats would only nearly be 1.
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(sizes)[:-1], jnp.ones(1)])


def piece(edges: jax.Array, t: jax.Array) -> jax.Array:
    """Return the piece k with x_k <= t < x_(k+1) for times t [B,1,1,1]; t = 1 lies in the last."""
    return jnp.sum(t >= edges[None, None, None, 1:-1], axis=-1, keepdims=True)


def overlaps(edges: jax.Array, s: jax.Array, width: float) -> jax.Array:
    """Return the length of [s, s + width] within each piece [B,1,1,K+1], in all exactly `width`.

    A step inside one piece gets `width` itself, not a difference of two close times.
    """
    # Lengths of the step before each inner knot: differences of neighbours are lengths within pieces.
    before = jnp.clip(edges[None, None, None, 1:-1] - s, 0.0, width)
    before = jnp.concatenate([jnp.zeros_like(s), before, jnp.full_like(s, width)], axis=-1)
    return jnp.diff(before, axis=-1)
