"""Noise schedules: time t -> gamma(t) = -log SNR(t)."""

import inspect
from collections.abc import Mapping

from vdm.errors import ConfigError, check_options, choose
from vdm.schedules.base import Schedule
from vdm.schedules.cosine import cosine
from vdm.schedules.ddpm_beta_linear import ddpm_beta_linear
from vdm.schedules.edm import edm
from vdm.schedules.endpoints import Endpoints
from vdm.schedules.linear import learned_linear, linear
from vdm.schedules.monotone_network import monotone_network
from vdm.schedules.per_pixel.network import conditional_network, pixel_network
from vdm.schedules.per_pixel.polynomial import conditional_polynomial, pixel_polynomial
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
    "pixel_polynomial": pixel_polynomial,
    "pixel_network": pixel_network,
    "conditional_polynomial": conditional_polynomial,
    "conditional_network": conditional_network,
}
"""Each entry: a function (endpoints, **options) -> Schedule."""


def make_schedule(
    name: str, endpoints: Endpoints, options: Mapping | None = None, facts: Mapping | None = None
) -> Schedule:
    """The schedule `name` between `endpoints`, with its own options.

    `facts` ("shape" of the images, "context_size", and options that stand once for several schedules)
    complete the options of schedules that ask for them.
    """
    build = choose("schedule.name", name, SCHEDULES, "schedule")
    options = options or {}
    _, *parameters = inspect.signature(build).parameters.values()
    known = [parameter.name for parameter in parameters]
    check_options(f"schedule.{name}", options, known)
    options = {**{n: v for n, v in (facts or {}).items() if n in known}, **options}
    for parameter in parameters:
        option = parameter.name
        if option not in options and parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"schedule.{name}.{option}: missing; give it a value")
    return build(endpoints, **options)
