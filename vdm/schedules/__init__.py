"""Noise schedules: time t in [0, 1] -> gamma(t) = -log SNR(t).

The contract is `vdm.schedules.base.Schedule`. Most variants derive from
`vdm.schedules.between.Between` and define only the part between the end points. A new one is a
file here, a line in SCHEDULES, a test.
"""

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
"""Schedules by name; each entry is a function (endpoints, **options) -> Schedule, whose keyword
arguments are the options under `schedule.NAME` of a configuration.
"""


def make_schedule(
    name: str, endpoints: Endpoints, options: Mapping | None = None, facts: Mapping | None = None
) -> Schedule:
    """Build the schedule `name` between `endpoints`.

    Args:
      name: a key of SCHEDULES.
      endpoints: gamma(0) and gamma(1), with whether they are learned.
      options: options of this schedule; those left out take their defaults.
      facts: what the data and the model know: "shape" (H, W, C) of the images and "context_size",
        the length K of a context; and the options that stand once for several schedules. Each is
        passed on to schedules that have an argument of that name.

    Raises:
      ConfigError: an unknown name, an unknown option, or one that is missing or out of range.
    """
    build = choose("schedule.name", name, SCHEDULES, "schedule")
    options = options or {}

    # The signature is the list of options, so that a schedule declares each of them once. Its
    # first argument is the end points, which no option may replace.
    _, *parameters = inspect.signature(build).parameters.values()
    known = [parameter.name for parameter in parameters]
    check_options(f"schedule.{name}", options, known)

    # Explicit options come last: they win over facts of the same name.
    options = {**{n: v for n, v in (facts or {}).items() if n in known}, **options}

    # Reported here, because the call below would raise a TypeError that names no configuration
    # field.
    for parameter in parameters:
        option = parameter.name
        if option not in options and parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"schedule.{name}.{option}: missing; give it a value")
    return build(endpoints, **options)
