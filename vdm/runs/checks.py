"""Checks of a configuration's numbers, before anything is built from it."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from vdm.data.base import Dataset
from vdm.errors import ConfigError, choose
from vdm.models.base import Model
from vdm.networks.base import DTYPES
from vdm.networks.base import OPTIONS as NETWORK_OPTIONS
from vdm.runs.completion import check_kinds
from vdm.runs.ranges import SEED, check_ranges
from vdm.runtime import devices
from vdm.samplers import serving
from vdm.training.writers import check_writers

SEEDS = (int(SEED.least), int(SEED.most))
"""Smallest and largest seed; a JAX key takes 32 bits."""


def check(config: Mapping[str, Any], accepted: Mapping[str, Any] | None = None) -> None:
    """Check a whole configuration, as far as that can be done without data and devices.

    Args:
      config: the whole configuration.
      accepted: that of the run which is resumed; a value that it has may lie outside today's range.

    Raises:
      ConfigError: the first value that would end inside a library, or train nonsense.
    """
    # Types first: the ranges compare numbers, and a name is looked up in a dictionary.
    check_kinds(config)
    check_ranges(config, accepted)
    check_writers(config["train"]["writers"])
    _check_denoiser(config["denoiser"])
    _check_steps_per_call(config["train"])
    _warn_of_warmup(config["optimizer"]["warmup_steps"], config["train"]["num_steps"])


def check_with_data(config: Mapping[str, Any], dataset: Dataset, model: Model) -> None:
    """Check what a new run will ask of its data and model only after hours of training.

    Args:
      config: the whole configuration.
      dataset: the open data.
      model: the model of the configuration.

    Raises:
      ConfigError: a split that the data do not have, more images in a batch than there are, a T that
        the model cannot take, or samples that no sampler draws.
    """
    train, evaluate = config["train"], config["evaluate"]
    sizes = {name: len(images) for name, images in dataset.splits.items()}
    choose(
        "config.evaluate.split",
        evaluate["split"],
        sizes,
        f"split of data {config['data']['name']!r}",
    )
    # Each batch would hold images twice, and an epoch would end within a step.
    if train["batch_size"] > sizes["train"]:
        raise ConfigError(
            f"config.train.batch_size={train['batch_size']}: the training split has "
            f"{sizes['train']} images; choose at most as many"
        )
    if timesteps := evaluate["num_timesteps"]:
        model.with_timesteps(timesteps)
    if train["num_samples"]:
        serving(model)


def _check_steps_per_call(train: Mapping) -> None:
    """Raise ConfigError unless every period ends together with a call of several steps."""
    size = train["steps_per_call"]
    for field, value in train.items():
        if (field == "num_steps" or field.endswith("_every_steps")) and value % size:
            raise ConfigError(
                f"config.train.{field}={value}: must be a multiple of "
                f"config.train.steps_per_call={size}"
            )


def _warn_of_warmup(warmup_steps: int, num_steps: int) -> None:
    """Warn of a run that ends before its learning rates have reached their peak."""
    if warmup_steps > num_steps:
        logging.getLogger(__name__).warning(
            f"config.optimizer.warmup_steps={warmup_steps}: train.num_steps={num_steps} are over "
            "before the learning rates have reached their values"
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
    # The defaults list no fields of a network that was added to the library's.
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
