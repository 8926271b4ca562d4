"""Defaults of sections "model", "context" and "denoiser"."""

from typing import Any

from vdm.network_options import MLP_DEFAULTS, UNET_DEFAULTS


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
    # The name is a key of vdm.networks.DENOISERS.
    return {"name": "unet", "unet": dict(UNET_DEFAULTS), "mlp": dict(MLP_DEFAULTS)}
