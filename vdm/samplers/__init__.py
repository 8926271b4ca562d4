"""Samplers: noise -> images."""

import dataclasses
from collections.abc import Mapping

from vdm.errors import check_options, choose
from vdm.samplers.ancestral import Ancestral
from vdm.samplers.base import Sampler, Trajectory

SAMPLERS: dict[str, type[Sampler]] = {"ancestral": Ancestral}
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


__all__ = ["SAMPLERS", "Sampler", "Trajectory", "make_sampler"]
