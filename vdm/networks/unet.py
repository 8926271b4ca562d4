"""U-Net without down-sampling (Kingma et al. 2021, arXiv:2107.00630, app. B), for any image shape."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm.network_options import UNET_DEFAULTS
from vdm.networks.attention import AttentionBlock
from vdm.networks.base import DTYPES
from vdm.networks.cpu.conv3x3 import conv3x3
from vdm.networks.layers import (
    Dtype,
    GroupNorm,
    ResidualBlock,
    fourier_features,
    gamma_map_features,
    keep_dear,
    kept,
    known_features,
    time_embedding,
)
from vdm.types import Known


class _Block(nn.Module):
    """A residual block, optionally followed by attention."""

    channels: int
    num_groups: int
    dropout: float
    deterministic: bool
    dtype: Dtype
    attention: bool
    in_loop: bool
    attend_by_image: bool

    @nn.compact
    def __call__(self, x, cond):
        h = ResidualBlock(
            self.channels,
            self.num_groups,
            self.dropout,
            self.deterministic,
            self.dtype,
            self.in_loop,
            name="residual",
        )(x, cond)
        if self.attention:
            attend = AttentionBlock(
                self.num_groups, self.dtype, self.attend_by_image, name="attention"
            )
            h = attend(kept(h))
        return h


class UNet(nn.Module):
    """n blocks down, two in the middle with attention between, n + 1 up with skip connections.

    `__call__(z, time, known, train)` maps z [B,H,W,C], time (gamma under the model's constant
    affine map, [B,1,1,1], or [B,H,W,C] with `gamma_map`) and `known` (what is known of each
    image, a `vdm.types.Known`) to a prediction [B,H,W,C] in float32.

    Attributes:
      channels: width of every block.
      num_blocks: n, number of blocks on the way down.
      fourier_exponents: Fourier features of z join the input; () for none.
      num_groups: number of groups in each group norm; of at least 2 channels, or the norm would remove
        the conditioning.
      dropout: rate of dropout inside the blocks.
      attention: whether self-attention follows every block, not only the first in the middle.
      dtype: dtype of the computation inside; parameters and Fourier features are float32.
      unroll: whether blocks are written out instead of looped over; parameters are the same, and
        numbers up to rounding.
      remat: whether the backward pass computes each block again instead of storing its activations; in
        a loop, all but those marked `kept` are computed again in any case.
      attend_by_image: whether attention may take large images one by one, see `AttentionBlock`.
      add_input: predict z + net(z), the natural start for eps.
      gamma_map: time may be a map [B,H,W,C], whose features join the input.
    """

    channels: int
    num_blocks: int
    fourier_exponents: tuple[int, ...]
    num_groups: int
    dropout: float = UNET_DEFAULTS["dropout"]
    attention: bool = UNET_DEFAULTS["attention"]
    dtype: Dtype = DTYPES[UNET_DEFAULTS["dtype"]]
    unroll: bool = True
    remat: bool = UNET_DEFAULTS["remat"]
    attend_by_image: bool = True
    add_input: bool = True
    gamma_map: bool = False

    @nn.compact
    def __call__(self, z, time, known: Known, train: bool):
        features = [z]
        if self.gamma_map:
            of_map, time = gamma_map_features(time, z.shape)
            features.append(of_map)
        cond = self._conditioning(time, known, z.shape[0])

        # The Fourier features of z let the network see differences of one code, finer than z's scale.
        if self.fourier_exponents:
            features.append(fourier_features(z, self.fourier_exponents))

        # For all convolutions: a network that is itself in a loop is configured not to unroll.
        in_loop = train and not self.unroll
        # The first convolution is float32: in bf16 the Fourier features would be noise.
        conv_in = conv3x3(self.channels, jnp.float32, train=train, in_loop=in_loop, name="conv_in")
        h = conv_in(jnp.concatenate(features, axis=-1))
        h = h.astype(self.dtype)
        h_in = h

        # Every block up is joined to an activation of the way down, the last one first.
        skips: Any
        h, emitted = self._blocks("down", self.num_blocks, h, None, cond, train)
        h = self._block(train, attention=True, name="middle1")(h, cond)
        h = self._block(train, attention=False, name="middle2")(h, cond)
        if self.unroll:
            skips = [h_in, *emitted][::-1]
        else:
            skips = jnp.concatenate([h_in[None], emitted])[::-1]
        h, _ = self._blocks("up", self.num_blocks + 1, h, skips, cond, train)

        # The last convolution starts at 0, so that a fresh network predicts z (or 0).
        h = nn.swish(GroupNorm(self.num_groups, name="norm_out")(h))
        conv_out = conv3x3(
            z.shape[-1], self.dtype, zero=True, train=train, in_loop=in_loop, name="conv_out"
        )
        out = conv_out(h).astype(jnp.float32)
        return z + out if self.add_input else out

    def _conditioning(self, time, known: Known, batch: int) -> jax.Array:
        """Return the features of time and of what is known, through two dense layers [B,4 channels]."""
        if time.shape[1:] != (1, 1, 1):
            raise ValueError(f"UNet takes one gamma per image; got time of shape {time.shape}")
        time = jnp.broadcast_to(time.reshape(-1), (batch,))
        embedding = time_embedding(time, self.channels)
        cond = jnp.concatenate([embedding, known_features(known)], axis=1)
        cond = nn.swish(nn.Dense(4 * self.channels, name="dense0")(cond))
        cond = nn.swish(nn.Dense(4 * self.channels, name="dense1")(cond))
        return cond.astype(self.dtype)

    def _block(self, train: bool, attention: bool, name: str | None = None) -> _Block:
        # An unnamed block is a plain function of its parameters, no child of this module.
        parent = {"name": name} if name else {"parent": None}
        return _Block(
            self.channels,
            self.num_groups,
            self.dropout,
            not train,
            self.dtype,
            attention,
            train and not self.unroll,
            self.attend_by_image,
            **parent,
        )

    def _blocks(self, name: str, length: int, h, skips: Any, cond, train: bool):
        """Apply `length` identical blocks, whose parameters are stacked on a leading axis.

        Args:
          name: name of the stacked parameters.
          length: number of blocks.
          h: input [B,H,W,C].
          skips: activations that the blocks' inputs are joined with, [length,B,H,W,C] for a loop and a
            list when blocks are written out; None for none.
          cond: features of time and of what is known [B,K].
          train: whether dropout is on.

        Returns:
          (the last block's output, all blocks' outputs, stacked or as a list like `skips`).
        """
        block = self._block(train, self.attention)
        joined = h if skips is None else jnp.concatenate([h, skips[0]], axis=-1)

        def init(key):
            keys = jax.random.split(key, length)
            return jax.vmap(lambda key: block.init(key, joined, cond)["params"])(keys)

        # Stacked parameters serve a loop and written-out blocks alike, so checkpoints fit both.
        stacked = self.param(name, init)
        drop = train and self.dropout > 0.0
        keys = jax.random.split(self.make_rng("dropout"), length) if drop else None

        def body(h, inputs):
            params, skip, key = inputs
            x = h if skip is None else jnp.concatenate([h, skip], axis=-1)
            rngs = None if key is None else {"dropout": key}
            h = block.apply({"params": params}, x, cond, rngs=rngs)
            return h, h

        # Memory: the policy decides which activations the backward pass finds stored.
        if self.remat:
            # A loop separates the two computations of a block by itself.
            body = jax.checkpoint(body, prevent_cse=self.unroll)
        elif not self.unroll:
            # What a loop stores is copied into stacks: norms cost less to compute again.
            body = jax.checkpoint(body, prevent_cse=False, policy=keep_dear)
        if not self.unroll:
            return jax.lax.scan(body, h, (stacked, skips, keys))
        emitted = []
        per_block = _unstack((stacked, keys), length)
        for (params, key), skip in zip(per_block, skips or [None] * length, strict=True):
            h, _ = body(h, (params, skip, key))
            emitted.append(h)
        return h, emitted


def _unstack(tree, length: int) -> list:
    """Return the `length` trees that `tree` stacks.

    Arrays are split, because the gradient of a split is one concatenation; that of indexing would be an
    array of the whole stack's size per block.
    """
    leaves, structure = jax.tree.flatten(tree)
    slices = [jax.lax.split(leaf, (1,) * length) for leaf in leaves]
    return [jax.tree.unflatten(structure, [leaf[i][0] for leaf in slices]) for i in range(length)]
