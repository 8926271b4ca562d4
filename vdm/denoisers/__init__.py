"""Denoisers: (z_t, gamma_t, conditioning) -> a prediction of the noise or of its equivalents."""

from collections.abc import Mapping

import flax.linen as nn

from vdm.denoisers.base import check_groups, resolve_dtype, resolve_unroll
from vdm.denoisers.layers import default_fourier_exponents, default_num_groups
from vdm.denoisers.mlp import MLP
from vdm.denoisers.unet import UNet
from vdm.errors import ConfigError, choose


def _unet(num_levels: int, channels, num_groups=None, unroll=None, **options) -> nn.Module:
    groups = default_num_groups(channels) if num_groups is None else num_groups
    return UNet(
        channels=channels,
        num_groups=check_groups(groups, channels),
        unroll=resolve_unroll(unroll),
        **_shared(num_levels, options),
    )


def _mlp(num_levels: int, **options) -> nn.Module:
    return MLP(**_shared(num_levels, options))


def _shared(num_levels, options: dict) -> dict:
    """The options of every denoiser, resolved: Fourier exponents, dtype."""
    exponents = options.pop("fourier_exponents", None)
    if exponents is None:
        exponents = default_fourier_exponents(num_levels)
    dtype = resolve_dtype(options.pop("dtype", "float32"))
    return dict(fourier_exponents=tuple(exponents), dtype=dtype, **options)


DENOISERS = {"unet": _unet, "mlp": _mlp}
"""Each entry: a function (num_levels, **options) -> Linen module."""


def make_denoiser(name: str, num_levels: int, options: Mapping) -> nn.Module:
    """The denoiser `name` for data of `num_levels` levels, with its own options."""
    build = choose("denoiser.name", name, DENOISERS, "denoiser")
    try:
        return build(num_levels, **options)
    except TypeError as error:
        raise ConfigError(f"denoiser.{name}: {error}") from error
