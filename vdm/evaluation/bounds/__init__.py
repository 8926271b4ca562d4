"""Bounds on -log p(x), one file each, found in one dictionary."""

from collections.abc import Mapping
from typing import Any

from vdm.evaluation.bounds.base import Bound, BoundValues
from vdm.evaluation.bounds.consistency import Consistency
from vdm.evaluation.bounds.dense import Dense
from vdm.evaluation.bounds.elbo import Elbo
from vdm.evaluation.bounds.importance import ImportanceWeighted
from vdm.evaluation.bounds.options import T, check, read
from vdm.evaluation.bounds.probability_flow import Flow
from vdm.evaluation.bounds.sampled import Continuous, Discrete

BOUNDS: dict[str, type[Bound]] = {
    "elbo": Elbo,
    "discrete": Discrete,
    "dense": Dense,
    "consistency": Consistency,
    "continuous": Continuous,
    "iwae": ImportanceWeighted,
    "ode": Flow,
}

__all__ = ["BOUNDS", "Bound", "BoundValues", "make_bound"]


def make_bound(text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Bound:
    """The bound that "NAME[@T][:option=value]..." describes, such as "iwae@100:num_weights=64".

    Args:
      text: a key of `BOUNDS`, T for those that take one, and options of that bound.
      options: {name: options of that bound} where the text gives none; None keeps the default.

    Raises:
      ConfigError: no such bound, no such option of it, or a value out of range.
    """
    name, given = read(text, BOUNDS)
    before = {n: v for n, v in (options or {}).get(name, {}).items() if v is not None}
    check(name, before, BOUNDS)
    kind = BOUNDS[name]
    return kind(**{T: kind.default_timesteps, **before, **given})
