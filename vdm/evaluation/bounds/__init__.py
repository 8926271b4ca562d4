"""Bounds on -log p(x), one file each, found by name in one dictionary."""

from collections.abc import Mapping
from typing import Any

from vdm.errors import ConfigError
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
"""{name: a variant of `vdm.evaluation.bounds.base.Bound`}; the fields of a variant are its options."""

__all__ = ["BOUNDS", "Bound", "BoundValues", "make_bound"]


def make_bound(text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Bound:
    """Return the bound that "NAME[@T][:option=value]..." describes, such as "iwae@100:num_weights=64".

    Args:
      text: a key of `BOUNDS`, T for a bound that takes one, and options of that bound.
      options: {name of a bound: its options}, used where the text gives none; a value of None keeps
        the bound's default.

    Raises:
      ConfigError: no such bound, no such option of it, or a value out of range.
    """
    name, given = read(text, BOUNDS)
    defaults = {n: v for n, v in (options or {}).get(name, {}).items() if v is not None}
    check(name, defaults, BOUNDS)
    kind, head = BOUNDS[name], text.partition(":")[0]
    try:
        return kind(**{T: kind.default_timesteps, **defaults, **given})
    except ConfigError as error:
        # A bound knows its options and not the text: the message shows "@T" where it was typed.
        raise ConfigError(str(error).replace(f"bound={name}:", f"bound={head}:", 1)) from None
