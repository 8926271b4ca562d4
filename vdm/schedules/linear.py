"""A log-SNR that falls linearly in time, between fixed or learned end points."""

import dataclasses

import jax.numpy as jnp

from vdm.schedules.base import Schedule, per_example
from vdm.schedules.endpoints import Endpoints


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """gamma(t) = (1 - t) gamma_0 + t gamma_1 (Kingma 2021, app. H: "fixed" and "learned" linear)."""

    endpoints: Endpoints

    def init(self, key):
        del key
        return self.endpoints.init()

    def gamma(self, params, t, context=None):
        gamma_0, gamma_1 = self.endpoints.values(params)
        t = per_example(t)
        # This form, unlike gamma_0 + t (gamma_1 - gamma_0), is exact at both ends in float32.
        return (1.0 - t) * gamma_0 + t * gamma_1

    def gamma_increment(self, params, step, num_timesteps, context=None):
        gamma_0, gamma_1 = self.endpoints.values(params)
        return per_example(jnp.ones(step.shape)) * ((gamma_1 - gamma_0) / num_timesteps)

    def project(self, params):
        return self.endpoints.project(params)


def linear(endpoints: Endpoints) -> Linear:
    """The line between fixed end points; no parameters."""
    return Linear(dataclasses.replace(endpoints, learned=False))


def learned_linear(endpoints: Endpoints) -> Linear:
    """The line between two learned end points."""
    return Linear(dataclasses.replace(endpoints, learned=True))
