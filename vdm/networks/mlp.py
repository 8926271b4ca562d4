"""Residual multi-layer perceptron over the flattened image, for small data and tests."""

import math

import flax.linen as nn
import jax.numpy as jnp

from vdm.network_options import MLP_DEFAULTS
from vdm.networks.base import DTYPES
from vdm.networks.layers import (
    Dtype,
    fourier_features,
    gamma_map_features,
    known_features,
    time_embedding,
)
from vdm.types import Known


class MLP(nn.Module):
    """Residual dense blocks, each shifted by features of the time and of what is known of the image.

    Inputs and output are those of `vdm.networks.base`.

    Attributes:
      width: number of features of every block.
      num_blocks: number of blocks.
      fourier_exponents: Fourier features of z join the input; () for none.
      dropout: rate of dropout inside the blocks.
      dtype: dtype of the computation inside; parameters are float32.
      add_input: predict z + net(z), the natural start for eps.
      gamma_map: time may be a map [B,H,W,C], whose features join the input.
    """

    width: int
    num_blocks: int
    fourier_exponents: tuple[int, ...]
    dropout: float = MLP_DEFAULTS["dropout"]
    dtype: Dtype = DTYPES[MLP_DEFAULTS["dtype"]]
    add_input: bool = True
    gamma_map: bool = False

    @nn.compact
    def __call__(self, z, time, known: Known, train: bool):
        # A map of times joins the input; its mean is embedded as the time of the image.
        features = [z]
        if self.gamma_map:
            of_map, time = gamma_map_features(time, z.shape)
            features.append(of_map)
        if time.shape[1:] != (1, 1, 1):
            raise ValueError(f"MLP takes one gamma per image; got time of shape {time.shape}")

        # Time and what is known enter every block through one vector per image.
        batch, num_dims = z.shape[0], math.prod(z.shape[1:])
        time = jnp.broadcast_to(time.reshape(-1), (batch,))
        cond = jnp.concatenate([time_embedding(time, self.width), known_features(known)], axis=1)
        cond = nn.swish(nn.Dense(self.width, name="cond")(cond)).astype(self.dtype)

        # Fourier features are float32, since in bfloat16 they would be noise.
        if self.fourier_exponents:
            features.append(fourier_features(z, self.fourier_exponents))
        flat = [feature.reshape(batch, -1) for feature in features]
        h = nn.Dense(self.width, name="dense_in")(jnp.concatenate(flat, axis=1))
        h = h.astype(self.dtype)
        for i in range(self.num_blocks):
            h = h + self._block(h, cond, train, f"block{i}")

        # The output starts at 0, so that a fresh network predicts z (or 0).
        out = nn.Dense(num_dims, kernel_init=nn.initializers.zeros, name="dense_out")(
            h.astype(jnp.float32)
        ).reshape(z.shape)
        return z + out if self.add_input else out

    def _block(self, h, cond, train: bool, name: str):
        h = nn.LayerNorm(dtype=self.dtype, name=f"{name}_norm")(h)
        h = nn.Dense(self.width, dtype=self.dtype, name=f"{name}_dense1")(h)
        h = h + nn.Dense(self.width, dtype=self.dtype, name=f"{name}_cond")(cond)
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.swish(h))
        zero = nn.initializers.zeros
        return nn.Dense(self.width, dtype=self.dtype, kernel_init=zero, name=f"{name}_dense2")(h)
