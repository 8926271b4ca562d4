"""Options of each network with their defaults, for the modules and for configurations.

This file stands below both and imports nothing: a configuration is read without JAX, so that `--help`
and mistakes are answered at once. `vdm.networks.base.OPTIONS` has the meaning of those that networks
share.
"""

from typing import Any

UNET_DEFAULTS: dict[str, Any] = {
    # Width of every block.
    "channels": 128,
    # Residual blocks going in; one more comes out, and two lie between.
    "num_blocks": 32,
    # Exponents n of the Fourier features sin, cos(2 pi 2^n z); None = log2(levels/2) - 1, - 0.
    "fourier_exponents": None,
    # Groups of the group norms; None = as many, up to 32, as leave 4 channels in each.
    "num_groups": None,
    # Probability that a feature inside the blocks is dropped in training.
    "dropout": 0.1,
    # Self-attention after every block; without it, only in the middle.
    "attention": False,
    # float32 or bfloat16, inside the network only; bfloat16 gains nothing on a CPU.
    "dtype": "float32",
    # Write identical blocks out instead of looping; None = for a shallow network on a CPU.
    "unroll": None,
    # Compute each block again in the backward pass: less memory for a third more work.
    "remat": False,
}

MLP_DEFAULTS: dict[str, Any] = {
    # Features of every block.
    "width": 256,
    "num_blocks": 4,
    # As for the U-Net, and so is dtype.
    "fourier_exponents": None,
    "dropout": 0.0,
    "dtype": "float32",
}
