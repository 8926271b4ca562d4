"""Denoisers: (z_t, gamma_t, known) -> a prediction of eps, x, v or the score."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn

from vdm.errors import ConfigError, check_options, choose
from vdm.networks.base import check_groups, resolve_dtype, resolve_unroll
from vdm.networks.layers import default_fourier_exponents, default_num_groups
from vdm.networks.mlp import MLP
from vdm.networks.unet import UNet

DENOISERS: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "mlp": MLP,
}
"""{name: Linen module whose fields are its options}."""
_DECIDABLE = ("fourier_exponents", "num_groups")
"""Fields without a default in the modules that a configuration may leave out or None."""


def make_denoiser(name: str, num_levels: int, options: Mapping) -> nn.Module:
    """Build the denoiser `name`.

    Args:
      name: key of `DENOISERS`.
      num_levels: number of integer codes per channel, from which Fourier exponents follow.
      options: the network's fields. fourier_exponents, num_groups and unroll may be None, for a value
        that follows from the others; dtype is a name.

    Raises:
      ConfigError: an unknown name or option, a missing one, or values that do not fit each other.
    """
    module = choose("denoiser.name", name, DENOISERS, "denoiser")
    fields = {f.name: f for f in dataclasses.fields(module) if f.name not in ("parent", "name")}
    check_options(f"denoiser.{name}", options, sorted(fields))
    for option, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and option not in (*options, *_DECIDABLE):
            raise ConfigError(f"denoiser.{name}.{option}: missing; give it a value")
    return module(**_resolve(name, num_levels, options, fields))


def _resolve(name: str, num_levels: int, options: Mapping, fields: Mapping) -> dict:
    """Return `options` with defaults filled in and names replaced by their values."""
    values = dict(options)
    if "dtype" in fields:
        values["dtype"] = resolve_dtype(f"denoiser.{name}.dtype", options.get("dtype", "float32"))
    if "fourier_exponents" in fields:
        exponents = options.get("fourier_exponents")
        exponents = default_fourier_exponents(num_levels) if exponents is None else exponents
        values["fourier_exponents"] = tuple(exponents)
    if "unroll" in fields:
        values["unroll"] = resolve_unroll(options.get("unroll"), options["num_blocks"])
    if "num_groups" in fields:
        channels, groups = options["channels"], options.get("num_groups")
        groups = default_num_groups(channels) if groups is None else groups
        values["num_groups"] = check_groups(f"denoiser.{name}", groups, channels)
    return values
