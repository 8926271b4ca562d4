"""Encoder of an image into the statistics of q(c|x), the distribution of its context."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from vdm.distributions.base import ContextModel
from vdm.errors import ConfigError, check_options


class Encoder(nn.Module):
    """Two convolutions and two dense layers: x [B,H,W,C] in [-1, 1] -> statistics [B,S] float32.

    The last layer starts small, so that q(c|x) starts near p(c) with a KL near 0. It does not start at
    0, where neither this layer nor those that read c would have a gradient that depends on the image.

    Attributes:
      num_statistics: S, number of statistics.
      channels: width of the convolutions; the second halves height and width.
      num_hidden: width of the hidden dense layer.
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


def make_encoder(context: ContextModel, options: Mapping | None = None) -> Encoder:
    """Build the encoder for the statistics of a context.

    Args:
      context: q(c|x) and p(c).
      options: "channels" and "num_hidden", each optional.

    Raises:
      ConfigError: an unknown option, or a size below 1.
    """
    options = dict(options or {})
    check_options("context.encoder", options, ("channels", "num_hidden"))
    for option, value in options.items():
        if value < 1:
            raise ConfigError(f"context.encoder.{option}={value}: must be at least 1")
    return Encoder(context.num_statistics, **options)
