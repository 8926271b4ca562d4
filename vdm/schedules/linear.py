"""A log-SNR that falls linearly in time, between fixed or learned end points."""

import dataclasses

import jax.numpy as jnp

from vdm.schedules.between import Between
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class Linear(Between):
    """gamma(t) = (1 - t) gamma_0 + t gamma_1 (Kingma 2021, app. H: "fixed" and "learned" linear)."""

    def share(self, shape, t, context=None):
        return t

    def share_rise(self, shape, s, t, num_timesteps, context=None):
        return jnp.ones_like(t), num_timesteps


def linear(endpoints: Endpoints) -> Linear:
    """The line between fixed end points; no parameters."""
    return Linear(dataclasses.replace(endpoints, learned=False))


def learned_linear(endpoints: Endpoints) -> Linear:
    """The line between two learned end points."""
    return Linear(dataclasses.replace(endpoints, learned=True))
