"""The contract of a denoiser, as a Linen module.

    prediction = module.apply({"params": params}, z, time, conditioning, train, rngs={"dropout": key})

z [B,H,W,C] float32; time = gamma under the model's *constant* affine map, about [0, 1], [B,1,1,1], or
for a module with `gamma_map` anything that broadcasts to z; conditioning [B], the augmentation flag, or
[B,K] with the numbers of a context after it; train switches dropout on. The prediction [B,H,W,C] is
float32, in whichever parameterisation the model chose. A denoiser knows no schedule, no data set and no
fixed image shape, and starts with a zero-initialised output.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vdm.errors import ConfigError, choose

MIN_BLOCKS_IN_LOOP = 4
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def resolve_dtype(field: str, name: str) -> Any:
    """The dtype a network computes in, by name; `field` is where the configuration holds it."""
    return choose(field, name, DTYPES, "dtype")


def resolve_unroll(unroll: bool | None, num_blocks: int) -> bool:
    """Whether to write identical blocks out; None decides: for shallow networks on a CPU.

    There a loop costs a little time a step, and a deep network written out minutes to compile.
    """
    shallow = num_blocks < MIN_BLOCKS_IN_LOOP
    return shallow and jax.default_backend() == "cpu" if unroll is None else unroll


def on_one_cpu() -> bool:
    """Whether one CPU device has the whole batch.

    Several share the images out: loops that suit one would bring images together, or exchange sums in
    every turn.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def check_groups(prefix: str, num_groups: int, channels: int) -> int:
    """`num_groups`, if the conditioning survives a normalisation of `channels` in so many groups."""
    if num_groups < 1 or channels % num_groups or channels // num_groups < 2:
        raise ConfigError(
            f"{prefix}.num_groups={num_groups}: must divide {prefix}.channels={channels} "
            "into groups of at least 2 channels (with 1 the normalisation removes the conditioning)"
        )
    return num_groups
