"""Noise schedules: time t -> gamma(t) = -log SNR(t)."""

import inspect
from collections.abc import Mapping

from vdm.errors import ConfigError, choose
from vdm.schedules.base import Schedule
from vdm.schedules.cosine import cosine
from vdm.schedules.ddpm_beta_linear import ddpm_beta_linear
from vdm.schedules.edm import edm
from vdm.schedules.endpoints import Endpoints
from vdm.schedules.linear import learned_linear, linear
from vdm.schedules.monotone_network import monotone_network
from vdm.schedules.piecewise_linear import piecewise_linear
from vdm.schedules.rational_spline import rational_spline
from vdm.schedules.sigmoid import sigmoid

SCHEDULES = {
    "linear": linear,
    "learned_linear": learned_linear,
    "monotone_network": monotone_network,
    "piecewise_linear": piecewise_linear,
    "rational_spline": rational_spline,
    "cosine": cosine,
    "ddpm_beta_linear": ddpm_beta_linear,
    "sigmoid": sigmoid,
    "edm": edm,
}
"""Each entry: a function (endpoints, **options) -> Schedule."""


def make_schedule(name: str, endpoints: Endpoints, options: Mapping | None = None) -> Schedule:
    """The schedule `name` between `endpoints`, with its own options."""
    build = choose("schedule.name", name, SCHEDULES, "schedule")
    options = options or {}
    known = list(inspect.signature(build).parameters)[1:]
    for option, value in options.items():
        if option not in known:
            listed = f"choose from {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"schedule.{name}.{option}={value!r}: no such option; {listed}")
    return build(endpoints, **options)
