"""Checks of a configuration's numbers, before anything is built from it."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from vdm.errors import ConfigError, choose
from vdm.networks.base import DTYPES
from vdm.networks.base import OPTIONS as NETWORK_OPTIONS
from vdm.runtime import devices
from vdm.training.writers import check_writers

SEEDS = (0, 2**32 - 1)
"""Smallest and largest seed; a JAX key takes 32 bits."""


def check(config: Mapping[str, Any]) -> None:
    """Check the numbers of a whole configuration.

    Raises:
      ConfigError: the first number out of range; it would end inside a library, or train nonsense.
    """
    at_least = {
        "train": {"num_steps": 1, "batch_size": 1, "log_every_steps": 0, "keep_latest": 1}
        | {"num_microbatches": 1, "steps_per_call": 1, "max_skipped_steps": 1}
        | {"evaluate_every_steps": 0, "save_every_steps": 0, "keep_best": 0}
        | {"sample_every_steps": 0, "num_samples": 0, "num_sample_steps": 1, "watchdog_seconds": 0},
        "evaluate": {"batch_size": 1, "repeats": 1, "randomisations": 1, "seed": 0},
        "objective": {"num_timesteps": 0},
        "optimizer": {"learning_rate": 0, "schedule_learning_rate": 0, "warmup_steps": 0}
        | {"clip_norm": 0, "schedule_clip_norm": 0, "weight_decay": 0},
    }
    for group, fields in at_least.items():
        for field, least in fields.items():
            value = config[group][field]
            if not value >= least:
                raise ConfigError(f"config.{group}.{field}={value}: must be at least {least}")
    # Rates that fall back on another one where they are None.
    for field in ("interior_learning_rate", "encoder_learning_rate"):
        value = config["optimizer"].get(field)
        if value is not None and not value >= 0:
            raise ConfigError(f"config.optimizer.{field}={value}: must be at least 0, or None")
    # Decay rates of running means: 1 would never move from the start.
    for field in ("ema_decay", "b1", "b2"):
        value = config["optimizer"][field]
        if not 0 <= value < 1:
            raise ConfigError(f"config.optimizer.{field}={value}: must be in [0, 1)")
    # JAX would fold a larger seed silently into 32 bits.
    for name, seed in (("seed", config["seed"]), ("evaluate.seed", config["evaluate"]["seed"])):
        if not 0 <= seed < 2**32:
            raise ConfigError(f"config.{name}={seed}: must be in 0..{2**32 - 1}")
    check_writers(config["train"]["writers"])
    _check_denoiser(config["denoiser"])
    _check_steps_per_call(config["train"])


def _check_steps_per_call(train: Mapping) -> None:
    """Raise ConfigError unless every period ends together with a call of several steps."""
    size = train["steps_per_call"]
    for field, value in train.items():
        if (field == "num_steps" or field.endswith("_every_steps")) and value % size:
            raise ConfigError(
                f"config.train.{field}={value}: must be a multiple of "
                f"config.train.steps_per_call={size}"
            )


def check_dtype(denoiser: Mapping, mesh: Mesh) -> None:
    """Check that the devices of `mesh` have the denoiser's dtype; warn where it gains nothing.

    Raises:
      ConfigError: a dtype that they lack.
    """
    name = denoiser["name"]
    dtype = denoiser.get(name, {}).get("dtype", "float32")
    devices.check_dtype(f"config.denoiser.{name}.dtype", dtype, mesh)
    if dtype == "bfloat16" and mesh.devices.flat[0].platform == "cpu":
        message = "denoiser dtype bfloat16: a CPU gains nothing from it, neither speed nor memory"
        logging.getLogger(__name__).warning(message)


def _check_denoiser(denoiser: Mapping) -> None:
    """Raise ConfigError for sizes, a dropout rate or a dtype that no network takes."""
    name = denoiser["name"]
    options = denoiser.get(name, {})
    for field, value in options.items():
        smallest = NETWORK_OPTIONS[field].least if field in NETWORK_OPTIONS else None
        if smallest is not None and value < smallest:
            raise ConfigError(
                f"config.denoiser.{name}.{field}={value}: must be at least {smallest}"
            )
    if not 0 <= options.get("dropout", 0) < 1:
        raise ConfigError(f"config.denoiser.{name}.dropout={options['dropout']}: must be in [0, 1)")
    if "dtype" in options:
        choose(f"config.denoiser.{name}.dtype", options["dtype"], DTYPES, "dtype")


def check_integers(**arguments: tuple[Any, int, int | None]) -> None:
    """Check that arguments are integers in their ranges.

    Args:
      **arguments: (value, least, most) by name; a value of None was not given, and a most of None is no
        limit.

    Raises:
      ConfigError: the first argument that is no integer or lies outside its range.
    """
    for name, (value, least, most) in arguments.items():
        if value is None:
            continue
        # A bool is an int to Python; as a number of images it is a mistake.
        fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not fits or value < least or (most is not None and value > most):
            allowed = f"of at least {least}" if most is None else f"in {least}..{most}"
            raise ConfigError(f"{name}={value!r}: choose an integer {allowed}")
