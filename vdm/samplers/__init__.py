"""Samplers: noise -> images."""

from vdm.errors import choose
from vdm.samplers.ancestral import ancestral
from vdm.samplers.base import Sampler, Trajectory

SAMPLERS: dict[str, Sampler] = {"ancestral": ancestral}
"""Each entry: a function as `vdm.samplers.base.Sampler` describes it."""


def make_sampler(name: str) -> Sampler:
    """The sampler `name`."""
    return choose("sampler", name, SAMPLERS, "sampler")


__all__ = ["SAMPLERS", "Sampler", "Trajectory", "make_sampler"]
