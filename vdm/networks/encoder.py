"""The encoder of an image into the statistics of its context."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from vdm.distributions.base import ContextModel
from vdm.errors import ConfigError, check_options


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


def make_encoder(context: ContextModel, options: Mapping | None = None) -> Encoder:
    """The encoder of a context's statistics, with its own options."""
    options = dict(options or {})
    check_options("context.encoder", options, ("channels", "num_hidden"))
    for option, value in options.items():
        if value < 1:
            raise ConfigError(f"context.encoder.{option}={value}: must be at least 1")
    return Encoder(context.num_statistics, **options)
