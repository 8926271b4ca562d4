"""Self-attention over all positions of an image, and the implementation that suits a device."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm.networks.base import on_one_cpu
from vdm.networks.layers import Dtype, GroupNorm, kept

MIN_POSITIONS_BY_IMAGE = 1024
"""Least number of positions at which attention on a CPU goes image by image, in 0.6 of the time."""


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Return softmax(q k^T / sqrt(C)) v [B,N,C] for q, k, v [B,N,C], the softmax in float32."""
    logits = jnp.einsum("bqc,bkc->bqk", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1).astype(v.dtype)
    return jnp.einsum("bqk,bkc->bqc", weights, v)


def attend_by_image(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Return `attend` image by image, with weights [N,N] that fit into a cache and are not stored."""

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop separates the two computations
    def one(qkv):
        return attend(*(array[None] for array in qkv))[0]

    return jax.lax.map(one, (q, k, v))


def attend_fused(q: jax.Array, k: jax.Array, v: jax.Array, implementation: Any) -> jax.Array:
    """Return `attend` by a JAX implementation, "xla" or "cudnn", which stores no weights [B,N,N]."""
    q, k, v = (array[:, :, None, :] for array in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, implementation=implementation)[:, :, 0]


def _attend_as_suits(q: jax.Array, k: jax.Array, v: jax.Array, by_image: bool) -> jax.Array:
    """Return `attend` by the implementation that is fastest on this device for these sizes."""
    positions, channels = q.shape[1:]
    # cuDNN takes 16 bits and these sizes only.
    suits_cudnn = q.dtype == jnp.bfloat16 and channels % 8 == 0 and channels <= 128
    if suits_cudnn and jax.default_backend() == "gpu":
        return attend_fused(q, k, v, "cudnn")
    if by_image and on_one_cpu() and positions >= MIN_POSITIONS_BY_IMAGE:
        return attend_by_image(q, k, v)
    return attend(q, k, v)


class AttentionBlock(nn.Module):
    """Residual single-head self-attention over all positions; its output projection starts at zero.

    Attributes:
      num_groups: number of groups of the norm.
      dtype: dtype of the computation.
      by_image: whether large images may be taken one by one, on a CPU where that is faster.
    """

    num_groups: int
    dtype: Dtype
    by_image: bool = True

    @nn.compact
    def __call__(self, x):
        batch, height, width, channels = x.shape
        h = GroupNorm(self.num_groups, name="norm")(x).reshape(batch, height * width, channels)
        q, k, v = (kept(nn.Dense(channels, dtype=self.dtype, name=n)(h)) for n in ("q", "k", "v"))
        h = kept(_attend_as_suits(q, k, v, self.by_image))
        h = nn.Dense(
            channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="proj_out"
        )(h)
        return x + h.reshape(x.shape)
