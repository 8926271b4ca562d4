"""Samplers: noise -> images."""

import dataclasses
from collections.abc import Mapping

from vdm.errors import ConfigError, check_options, choose
from vdm.models.base import Model, require_support
from vdm.samplers.ancestral import Ancestral
from vdm.samplers.base import Sampler, Trajectory
from vdm.samplers.chain import LatentChain

SAMPLERS: dict[str, type[Sampler]] = {
    "ancestral": Ancestral,
    "chain": LatentChain,
}
"""Each entry: a variant of `vdm.samplers.base.Sampler`; its fields are its options."""


def make_sampler(name: str, options: Mapping | None = None) -> Sampler:
    """The sampler `name`, with its own options.

    Raises:
      ConfigError: no such sampler, or no such option.
    """
    variant, options = choose("sampler", name, SAMPLERS, "sampler"), options or {}
    known = [field.name for field in dataclasses.fields(variant)]
    check_options(f"sampler.{name}", options, known)
    return variant(**options)


def serving(model: Model, name: str | None = None) -> str:
    """The name of the sampler that is to serve `model`: `name`, or the first that it supports.

    Raises:
      ConfigError: no such sampler, or one that does not serve this model.
    """
    if name is None:
        served = model.supports().samplers
        known = tuple(SAMPLERS) if served is None else served
        if not known:
            raise ConfigError(f"sampler: none serves a model of family {model.family!r}")
        return known[0]
    make_sampler(name)
    require_support("samplers", name, model)
    return name


__all__ = ["SAMPLERS", "Sampler", "Trajectory", "make_sampler", "serving"]
