"""The encoder of an image into the statistics of its context."""

import flax.linen as nn
import jax.numpy as jnp


class Encoder(nn.Module):
    """x [B,H,W,C] in [-1, 1] -> statistics [B,S] float32: two convolutions, two dense layers.

    The last layer starts small, so that q(c|x) starts near p(c) and costs next to nothing; not at 0,
    where neither it nor the readers of c would have a gradient to part the images by.

    Attributes:
      num_statistics: S.
      channels: of the convolutions; the second halves height and width.
      num_hidden: of the dense layer between.
    """

    num_statistics: int
    channels: int = 16
    num_hidden: int = 64

    @nn.compact
    def __call__(self, x):
        h = nn.swish(nn.Conv(self.channels, (3, 3), padding="SAME", name="conv1")(x))
        h = nn.swish(nn.Conv(self.channels, (3, 3), (2, 2), padding="SAME", name="conv2")(h))
        h = nn.swish(nn.Dense(self.num_hidden, name="dense1")(h.reshape(x.shape[0], -1)))
        small = nn.initializers.variance_scaling(0.01, "fan_in", "normal")
        out = nn.Dense(self.num_statistics, kernel_init=small, name="dense2")(h)
        return out.astype(jnp.float32)
