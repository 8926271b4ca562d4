"""Samplers: noise -> images."""

from vdm.errors import ConfigError, choose
from vdm.models.base import Model, require_support
from vdm.samplers.ancestral import ancestral
from vdm.samplers.base import Sampler, Trajectory
from vdm.samplers.chain import chain

SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "chain": chain,
}
"""Each entry: a function as `vdm.samplers.base.Sampler` describes it."""


def make_sampler(name: str) -> Sampler:
    """The sampler `name`."""
    return choose("sampler", name, SAMPLERS, "sampler")


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
