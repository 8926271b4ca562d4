"""Masked means of the terms of a batch, in bits/dim."""

from typing import Any

import jax
import jax.numpy as jnp

from vdm.types import TERM_NAMES, ElboTerms, bits_per_dim

Metrics = dict[str, jax.Array]


def mean_bits_per_dim(terms: ElboTerms, mask: Any, num_dims: int) -> Metrics:
    """Average the total ("bits_per_dim") and every term over unmasked images, bits/dim.

    Args:
      terms: terms of every image [B], nats.
      mask: false for padding [B].
      num_dims: D, number of dimensions of an image.
    """
    weight = mask.astype(jnp.float32) / jnp.maximum(jnp.sum(mask), 1)
    per_example = {"bits_per_dim": terms.total, **{n: getattr(terms, n) for n in TERM_NAMES}}
    return {n: bits_per_dim(jnp.sum(weight * v), num_dims) for n, v in per_example.items()}
