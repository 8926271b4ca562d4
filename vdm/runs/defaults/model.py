"""Defaults of sections "model", "context" and "denoiser"."""

from typing import Any


def model() -> dict[str, Any]:
    """Return the family of models and the meaning of the network's output and input."""
    return {
        # The model family, a key of vdm.models.FAMILIES.
        "family": "vdm",
        # The quantity that the network's output stands for: eps, x, v or score.
        "parameterisation": "eps",
        # "expected" takes E[-log p(x|z_0)] exactly; "sampled" draws z_0, as the paper did.
        "reconstruction": "expected",
        # With a gamma per pixel the network sees its "map", and the context; or the "mean" alone, as
        # MuLAN's does (arXiv:2312.13236), and then its bound depends on the path of gamma.
        "gamma_input": "map",
    }


def context() -> dict[str, Any]:
    """Return the context c of a conditional schedule, charged as the bound's auxiliary term."""
    return {
        # none, gaussian or categorical; a schedule that is not conditional takes none.
        "name": "none",
        # num_features: numbers, standard normal a priori.
        "gaussian": {"num_features": 8},
        # Variables, uniform over classes a priori; the temperature of their relaxation in training.
        "categorical": {"num_variables": 8, "num_classes": 2, "temperature": 0.5},
        # channels of its two convolutions; num_hidden features of the dense layer after them.
        "encoder": {"channels": 16, "num_hidden": 64},
    }


def denoiser() -> dict[str, Any]:
    """Return the network; only the options under its name count."""
    # float32 or bfloat16, inside the network only; bfloat16 gains nothing on a CPU.
    dtype = "float32"
    return {
        # A key of vdm.networks.DENOISERS.
        "name": "unet",
        "unet": {
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
            "dtype": dtype,
            # Write identical blocks out instead of looping; None = for a shallow network on a CPU.
            "unroll": None,
            # Compute each block again in the backward pass: less memory for a third more work.
            "remat": False,
        },
        "mlp": {
            # Features of every block.
            "width": 256,
            "num_blocks": 4,
            "fourier_exponents": None,
            "dropout": 0.0,
            "dtype": dtype,
        },
    }
