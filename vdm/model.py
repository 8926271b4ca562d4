"""A variational diffusion model: schedule, denoiser and decoder joined over one parameter tree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm import decoder, diffusion
from vdm.denoisers import make_denoiser
from vdm.errors import choose
from vdm.schedules import Endpoints, Schedule, make_schedule
from vdm.types import Conditioning, DataSpec, Gamma, Latents, Params, PRNGKey

RECONSTRUCTIONS = {"expected": True, "sampled": False}


@dataclasses.dataclass(frozen=True)
class VDM:
    """Pure functions over params = {"schedule": ..., "denoiser": ...}.

    Attributes:
      shape: (H, W, C) of an image.
      num_levels: integer codes per channel.
      schedule: t -> gamma.
      denoiser: see `vdm.denoisers.base`.
      parameterisation: what the denoiser's output means: "eps", "x", "v" or "score".
      expected_reconstruction: take the reconstruction term in expectation over z_0 (no noise), or from
        one draw of z_0.
      time_map: (a, b): the denoiser sees (gamma - a)/(b - a). Constants: were they the current end
        points, a fixed network would depend on them, and so would their gradient.
    """

    shape: tuple[int, int, int]
    num_levels: int
    schedule: Schedule
    denoiser: nn.Module
    parameterisation: str
    expected_reconstruction: bool
    time_map: tuple[float, float]

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; `key` is consumed."""
        key_schedule, key_denoiser = jax.random.split(key)
        z, flag = jnp.zeros((1, *self.shape)), jnp.zeros((1,))
        time = jnp.zeros((1, 1, 1, 1))
        variables = self.denoiser.init(key_denoiser, z, time, flag, False)
        return {
            "schedule": self.schedule.init(key_schedule),
            "denoiser": variables.get("params", {}),
        }

    def predict_eps(
        self,
        params: Params,
        z: Latents,
        gamma: Gamma,
        conditioning: Conditioning,
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
    ) -> Latents:
        """eps_hat(z_t, gamma_t) [B,H,W,C]; `dropout_key` is consumed when training."""
        low, high = self.time_map
        prediction: Any = self.denoiser.apply(
            {"params": params["denoiser"]},
            z,
            (gamma - low) / (high - low),
            conditioning,
            train,
            rngs={} if dropout_key is None else {"dropout": dropout_key},
        )
        return diffusion.to_eps(self.parameterisation, prediction, z, gamma)


def make_model(spec: DataSpec, model: Mapping, schedule: Mapping, denoiser: Mapping) -> VDM:
    """The model a configuration describes, for data of `spec`.

    Args:
      spec: gives shape and number of levels.
      model: "parameterisation", "reconstruction" ("expected" or "sampled").
      schedule: "name", "gamma_0" and "gamma_1" (None: `default_gamma_0(L)` and 5), and under the
        schedule's name its own options.
      denoiser: "name", and under that name its own options.

    Raises:
      ConfigError: for a name or option that does not exist, or values that do not fit.
    """
    gamma_0, gamma_1 = schedule["gamma_0"], schedule["gamma_1"]
    endpoints = Endpoints(
        gamma_0=decoder.default_gamma_0(spec.num_levels) if gamma_0 is None else float(gamma_0),
        gamma_1=5.0 if gamma_1 is None else float(gamma_1),
        max_gamma_0=decoder.max_gamma_0(spec.num_levels),
    )
    mode = model["reconstruction"]
    parameterisation = model["parameterisation"]
    choose("model.parameterisation", parameterisation, diffusion.TO_EPS, "parameterisation")
    options = {"add_input": parameterisation == "eps", **denoiser.get(denoiser["name"], {})}
    built = make_schedule(schedule["name"], endpoints, schedule.get(schedule["name"]))
    # A schedule may have been asked for end points of its own.
    endpoints = getattr(built, "endpoints", endpoints)
    return VDM(
        shape=spec.shape,
        num_levels=spec.num_levels,
        schedule=built,
        denoiser=make_denoiser(denoiser["name"], spec.num_levels, options),
        parameterisation=parameterisation,
        expected_reconstruction=choose("model.reconstruction", mode, RECONSTRUCTIONS, "estimator"),
        time_map=(endpoints.gamma_0, endpoints.gamma_1),
    )


def count_parameters(params: Params) -> int:
    """Number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
