"""Distributions of codes (`codes`), of latents (`diagonal`), and of contexts, found in one dictionary.

A context is what a schedule may know of an image: drawn from q(c|x), and charged by an exact KL.
"""

import inspect
from collections.abc import Mapping

from vdm.distributions.base import ContextModel, Draw, value_of
from vdm.distributions.categorical import categorical
from vdm.distributions.gaussian import gaussian
from vdm.errors import check_options, choose

CONTEXTS = {"gaussian": gaussian, "categorical": categorical}
"""Each entry: a function (**options) -> ContextModel."""
NONE = "none"

__all__ = [
    "CONTEXTS",
    "NONE",
    "ContextModel",
    "Draw",
    "make_context",
    "value_of",
]


def make_context(name: str, options: Mapping | None = None) -> ContextModel | None:
    """The context `name` with its own options; None for "none"."""
    build = choose("context.name", name, {NONE: None, **CONTEXTS}, "context")
    if build is None:
        return None
    options = options or {}
    check_options(f"context.{name}", options, inspect.signature(build).parameters)
    return build(**options)
