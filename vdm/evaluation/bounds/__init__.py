"""Bounds on -log p(x), one file each, found in one dictionary."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError
from vdm.evaluation.bounds.base import Bound, BoundValues
from vdm.evaluation.bounds.consistency import Consistency
from vdm.evaluation.bounds.dense import Dense
from vdm.evaluation.bounds.importance import ImportanceWeighted
from vdm.evaluation.bounds.probability_flow import Flow
from vdm.evaluation.bounds.sampled import Continuous, Discrete

BOUNDS: dict[str, type[Bound]] = {
    "discrete": Discrete,
    "dense": Dense,
    "consistency": Consistency,
    "continuous": Continuous,
    "iwae": ImportanceWeighted,
    "ode": Flow,
}

__all__ = ["BOUNDS", "Bound", "BoundValues", "make_bound"]


def make_bound(text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Bound:
    """The bound that "NAME" or "NAME@T" describes.

    Args:
      text: a key of `BOUNDS`, with T for those of finite T.
      options: {name: options of that bound}; those that are None keep their default.

    Raises:
      ConfigError: no such bound, or an option out of range.
    """
    name, at, steps = text.partition("@")
    if name not in BOUNDS:
        listed = ", ".join(BOUNDS)
        raise ConfigError(f"--bound={text}: no such bound; choose of {listed}, or NAME@T")
    if at and not steps.isdecimal():
        raise ConfigError(f"--bound={text}: T must be an integer, such as {name}@100")
    kind = BOUNDS[name]
    chosen = dict((options or {}).get(name, {}))
    chosen["num_timesteps"] = int(steps) if at else chosen.get("num_timesteps")
    if chosen["num_timesteps"] is None:
        chosen["num_timesteps"] = kind.default_timesteps
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{n: v for n, v in chosen.items() if v is not None and n in known})
