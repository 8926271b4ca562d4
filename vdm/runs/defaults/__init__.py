"""Every field of a configuration, with its default, unit and reason; a file for each group of sections.

configs/base.py makes a configuration of them, and the other files there change only what differs.
Fields that hold None decide for themselves. Override any of them on the command line:
--config=configs/digits.py --config.train.num_steps=500
"""

from typing import Any

from vdm.runs.defaults.data import data
from vdm.runs.defaults.model import context, denoiser, model
from vdm.runs.defaults.schedule import schedule
from vdm.runs.defaults.training import devices, evaluate, objective, optimizer, train


def default_config() -> dict[str, Any]:
    """Return the configuration of defaults, of a run on the digits with the paper's network."""
    return {
        # Seed of parameters, batches, times, noise and dropout.
        "seed": 0,
        "data": data(),
        "model": model(),
        "schedule": schedule(),
        "context": context(),
        "denoiser": denoiser(),
        "objective": objective(),
        "optimizer": optimizer(),
        "devices": devices(),
        "train": train(),
        "evaluate": evaluate(),
    }


KINDS = {
    "data.arrays.num_levels": int,
    "data.bits": int,
    "data.cache_dir": str,
    "data.num_validation": int,
    "data.source_dir": str,
    "denoiser.mlp.fourier_exponents": tuple,
    "denoiser.unet.fourier_exponents": tuple,
    "denoiser.unet.num_groups": int,
    "denoiser.unet.unroll": bool,
    "devices.num_devices": int,
    "evaluate.num_timesteps": int,
    "objective.interior_loss": str,
    "optimizer.encoder_learning_rate": float,
    "optimizer.interior_learning_rate": float,
    "schedule.gamma_0": float,
    "schedule.gamma_1": float,
    "schedule.piecewise_linear.shares": tuple,
    "schedule.piecewise_linear.times": tuple,
    "schedule.rational_spline.shares": tuple,
    "schedule.rational_spline.times": tuple,
}
"""{field whose default is None: the type of a value that it may hold instead}."""

ELEMENTS = {
    "denoiser.mlp.fourier_exponents": float,
    "denoiser.unet.fourier_exponents": float,
    "schedule.piecewise_linear.shares": float,
    "schedule.piecewise_linear.times": float,
    "schedule.rational_spline.shares": float,
    "schedule.rational_spline.times": float,
    "train.writers": str,
}
"""{field that holds a tuple: the type of its elements}."""
