"""Distributions of codes (`codes`), of latents (`diagonal`) and of contexts, by name in a dictionary.

A context c of an image is drawn from q(c|x) for a conditional schedule; the bound adds its exact KL.
"""

import inspect
from collections.abc import Mapping

from vdm.distributions.base import ContextModel, Draw, value_of
from vdm.distributions.categorical import categorical
from vdm.distributions.gaussian import gaussian
from vdm.errors import check_options, choose

CONTEXTS = {"gaussian": gaussian, "categorical": categorical}
"""{name: function (**options) -> ContextModel}."""
NONE = "none"
"""Name that stands for no context."""

__all__ = [
    "CONTEXTS",
    "NONE",
    "ContextModel",
    "Draw",
    "make_context",
    "value_of",
]


def make_context(name: str, options: Mapping | None = None) -> ContextModel | None:
    """Build the context `name`; None for "none".

    Args:
      name: key of `CONTEXTS`, or "none".
      options: the context's own options.

    Raises:
      ConfigError: an unknown name or option, or a value out of range.
    """
    build = choose("context.name", name, {NONE: None, **CONTEXTS}, "context")
    if build is None:
        return None
    options = options or {}
    check_options(f"context.{name}", options, inspect.signature(build).parameters)
    return build(**options)
