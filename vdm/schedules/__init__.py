"""Noise schedules: time t -> gamma(t) = -log SNR(t)."""

from collections.abc import Mapping

from vdm.errors import choose
from vdm.schedules.base import Schedule
from vdm.schedules.endpoints import Endpoints
from vdm.schedules.linear import learned_linear, linear

SCHEDULES = {
    "linear": linear,
    "learned_linear": learned_linear,
}
"""Each entry: a function (endpoints, **options) -> Schedule."""


def make_schedule(name: str, endpoints: Endpoints, options: Mapping | None = None) -> Schedule:
    """The schedule `name` between `endpoints`, with its own options."""
    return choose("schedule.name", name, SCHEDULES, "schedule")(endpoints, **(options or {}))
