"""Samplers, from noise to images, found by name in one dictionary."""

import dataclasses
from collections.abc import Mapping

from vdm.errors import ConfigError, check_options, choose
from vdm.models.base import Model
from vdm.models.support import require_support
from vdm.samplers.ancestral import Ancestral
from vdm.samplers.base import Sampler, Trajectory
from vdm.samplers.chain import LatentChain

SAMPLERS: dict[str, type[Sampler]] = {
    "ancestral": Ancestral,
    "chain": LatentChain,
}
"""{name: a variant of `vdm.samplers.base.Sampler`}; the fields of a variant are its options."""


def make_sampler(name: str, options: Mapping | None = None) -> Sampler:
    """Return the sampler `name` with its options.

    Args:
      name: a key of `SAMPLERS`.
      options: {field of the variant: value}; what is missing keeps its default.

    Raises:
      ConfigError: no such sampler, or no such option.
    """
    variant, options = choose("sampler", name, SAMPLERS, "sampler"), options or {}
    option_names = [field.name for field in dataclasses.fields(variant)]
    check_options(f"sampler.{name}", options, option_names)
    return variant(**options)


def serving(model: Model, name: str | None = None) -> str:
    """Return the name of the sampler for `model`: `name`, or the first that the model supports.

    Raises:
      ConfigError: no such sampler, one that does not serve this model, or no sampler serves it.
    """
    if name is None:
        supported = model.supports().samplers
        # None means that every sampler serves the family, an empty tuple that none does.
        candidates = tuple(SAMPLERS) if supported is None else supported
        if not candidates:
            raise ConfigError(f"sampler: none serves a model of family {model.family!r}")
        return candidates[0]
    # Made only for its error: an unknown name is refused with the list of samplers.
    make_sampler(name)
    require_support("samplers", name, model)
    return name


__all__ = ["SAMPLERS", "Sampler", "Trajectory", "make_sampler", "serving"]
