"""Contexts: what a schedule may know of an image, drawn from q(c|x) and paid for with an exact KL."""

import inspect
from collections.abc import Mapping

from vdm.distributions.base import ContextModel, Draw, value_of
from vdm.distributions.categorical import categorical
from vdm.distributions.gaussian import gaussian
from vdm.errors import ConfigError, check_options, choose
from vdm.networks.encoder import Encoder

CONTEXTS = {"gaussian": gaussian, "categorical": categorical}
"""Each entry: a function (**options) -> ContextModel."""
NONE = "none"

__all__ = [
    "CONTEXTS",
    "NONE",
    "ContextModel",
    "Draw",
    "Encoder",
    "make_context",
    "make_encoder",
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


def make_encoder(context: ContextModel, options: Mapping | None = None) -> Encoder:
    """The encoder of a context's statistics, with its own options."""
    options = dict(options or {})
    check_options("context.encoder", options, ("channels", "num_hidden"))
    for option, value in options.items():
        if value < 1:
            raise ConfigError(f"context.encoder.{option}={value}: must be at least 1")
    return Encoder(context.num_statistics, **options)
