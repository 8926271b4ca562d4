"""Contract of a denoiser, a Flax Linen module.

    prediction = module.apply({"params": params}, z, time, known, train, rngs={"dropout": key})

z [B,H,W,C] float32; time = gamma under the model's *constant* affine map, about [0, 1], [B,1,1,1], or
for a module with `gamma_map` anything that broadcasts to z; known = a `vdm.types.Known`, the record of
what is known of each image, which `vdm.networks.layers.known_features` turns into numbers; train
switches dropout on. The prediction [B,H,W,C] is float32, in whichever parameterisation the model chose.
A denoiser knows no schedule, no data set and no fixed image shape, and starts with a zero-initialised
output.

The module's fields are its options. Those in `OPTIONS` mean the same in every network, and callers set
them by name: a network has all that are `required`, and of the others those that suit it. Further
options of a network have defaults.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError, choose

MIN_BLOCKS_IN_LOOP = 4
"""Least depth at which identical blocks run in a loop on a CPU, where a loop costs a little time."""
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""{name: dtype that a network may compute in}."""


class Option(NamedTuple):
    """A field with one meaning in every network that has it.

    Attributes:
      meaning: effect of the option.
      required: whether every network has it.
      least: smallest value that a configuration may give, for sizes; None for no limit.
      beside: another field that a network with this one must have, from which a default follows.
    """

    meaning: str
    required: bool = False
    least: int | None = None
    beside: str | None = None


OPTIONS = {
    "add_input": Option("predict z + net(z), the start for eps; the model sets it", True),
    "gamma_map": Option("time may be a map [B,H,W,C]; the model sets it, by the schedule", True),
    "fourier_exponents": Option(
        "Fourier features of z at 2^n join the input; None = by the number of levels, () = none",
        True,
    ),
    "dropout": Option("rate inside the blocks, below 1; drawn while training alone", True),
    "dtype": Option("dtype of the computation inside, by name; outside all is float32", True),
    "channels": Option("width of convolutional blocks", least=1),
    "width": Option("features of dense blocks", least=1),
    "num_blocks": Option("depth: identical blocks in a row", least=0),
    "num_groups": Option("of the group norms; None = by channels", beside="channels"),
    "unroll": Option(
        "write blocks out instead of looping; None = for shallow networks on a CPU",
        beside="num_blocks",
    ),
    "remat": Option("compute blocks again in the backward pass instead of keeping them"),
}
"""{field: its meaning}, see the module."""


def resolve_dtype(field: str, name: str) -> Any:
    """Return the dtype called `name`.

    Args:
      field: place of the option in the configuration, for messages.
      name: key of `DTYPES`.

    Raises:
      ConfigError: an unknown name.
    """
    return choose(field, name, DTYPES, "dtype")


def resolve_unroll(unroll: bool | None, num_blocks: int) -> bool:
    """Decide whether identical blocks are written out instead of looped over.

    By default (`unroll` None) they are in shallow networks on a CPU: there a loop costs a little time
    per step, while a deep network that is written out takes minutes to compile.
    """
    shallow = num_blocks < MIN_BLOCKS_IN_LOOP
    return shallow and jax.default_backend() == "cpu" if unroll is None else unroll


def on_one_cpu() -> bool:
    """Return True if one CPU device has the whole batch.

    Several devices share the images out. Loops over images or kernel entries, which are fast on one,
    would then gather the images, or exchange sums in every iteration.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def check_groups(prefix: str, num_groups: int, channels: int) -> int:
    """Return `num_groups` if a group norm with so many groups keeps the conditioning.

    The conditioning is added as a constant per channel, so a group of one channel would normalise it
    away.

    Args:
      prefix: place of the network's options in the configuration, for messages.
      num_groups: number of groups.
      channels: number of channels.

    Raises:
      ConfigError: groups of unequal size, or of fewer than 2 channels.
    """
    if num_groups < 1 or channels % num_groups or channels // num_groups < 2:
        raise ConfigError(
            f"{prefix}.num_groups={num_groups}: must divide {prefix}.channels={channels} "
            "into groups of at least 2 channels (with 1 the normalisation removes the conditioning)"
        )
    return num_groups
