"""Defaults of section "schedule"; see docs/guide/schedules.md."""

from typing import Any


def schedule() -> dict[str, Any]:
    """Return gamma(t) = -log SNR(t), from gamma_0 at t = 0 to gamma_1 at t = 1.

    The fields before the first schedule's name belong to all schedules that take them; under each name
    lie the options of that schedule alone.
    """
    return {
        # A key of vdm.schedules.SCHEDULES.
        "name": "learned_linear",
        # None = -13.3 + 2 ln(256 / levels): as sharp per level as the paper's -13.3 at 256.
        "gamma_0": None,
        # None = 5: the prior term costs .0015 bits/dim.
        "gamma_1": None,
        # For schedules with a learned interior: whether gamma_0 and gamma_1 are learned too, the same
        # two for all dimensions, so that reconstruction and prior stay exact. learned_linear always
        # learns them, linear and the published schedules never do.
        "learned_endpoints": True,
        # For a gamma per pixel: "pixel" has one for each of H W C dimensions, "channel" one per
        # channel, and "low_rank" lies between.
        "sharing": "pixel",
        # Rank of sharing "low_rank", 1 to min(H, W).
        "rank": 4,
        "linear": {},
        "learned_linear": {},
        "monotone_network": {"num_features": 1024},
        "piecewise_linear": knots(),
        "rational_spline": knots(),
        # own_endpoints: the schedule's own truncation instead of gamma_0 and gamma_1.
        "cosine": {"own_endpoints": False},
        # discrete: through DDPM's thousand steps; otherwise their continuous limit.
        "ddpm_beta_linear": {"discrete": True, "own_endpoints": False},
        # start and end: the part of the logistic function that is used.
        "sigmoid": {"start": -3.0, "end": 3.0, "own_endpoints": False},
        # mean and deviation of ln sigma.
        "edm": {"mean": -1.2, "deviation": 1.2, "own_endpoints": False},
        # A gamma per pixel; the conditional ones need a context.
        "pixel_polynomial": {},
        "pixel_network": {"num_features": 8},
        # num_hidden: features between the context and what it does to the schedule.
        "conditional_polynomial": {"num_hidden": 64},
        "conditional_network": {"num_features": 8, "num_hidden": 64},
    }


def knots() -> dict[str, Any]:
    """Return a schedule piece by piece; times and shares of the way lie strictly between 0 and 1."""
    return {
        # Number of inner knots, evenly spaced on the straight line unless placed by the next two.
        "num_knots": 16,
        "times": None,
        "shares": None,
        # The knots are learned, or (False) stay where they are placed.
        "learned": True,
    }
