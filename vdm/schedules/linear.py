"""A log-SNR that falls linearly in time, between fixed or learned end points.

Kingma et al. 2021 (arXiv:2107.00630), app. H, calls these the "fixed" and the "learned" linear
schedule.
"""

import dataclasses

import jax.numpy as jnp

from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class Linear(Between):
    """gamma(t) = (1 - t) gamma_0 + t gamma_1: the share of the way is the time itself."""

    def share(self, interior, t, context=None):
        return t

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        # As a quotient 1/T, not the difference t - s of two rounded times.
        return jnp.ones_like(t), num_timesteps


def linear(endpoints: Endpoints) -> Linear:
    """Return the line between fixed end points, which has no parameters."""
    return Linear(dataclasses.replace(endpoints, learned=False))


def learned_linear(endpoints: Endpoints) -> Linear:
    """Return the line between two learned end points."""
    return Linear(dataclasses.replace(endpoints, learned=True))
