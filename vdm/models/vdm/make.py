"""Construction of a variational diffusion model from the sections of a configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vdm import diffusion
from vdm.distributions import NONE, codes, make_context
from vdm.errors import choose
from vdm.models.vdm.model import VDM
from vdm.models.vdm.objective import Objective, objective_gradient
from vdm.models.vdm.weights import make_weight
from vdm.networks import make_denoiser
from vdm.networks.encoder import make_encoder
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import has_scalar_gamma
from vdm.types import DataSpec

RECONSTRUCTIONS = {"expected": True, "sampled": False}
GAMMA_INPUTS = {"map": True, "mean": False}
"""{input of the denoiser: whether it is all of gamma and the context, or the mean of gamma alone}."""
TIMES = {"uniform": False, "adaptive": True}
"""{density of times: whether it follows the loss}."""


OF_SEVERAL_SCHEDULES = ("learned_endpoints", "sharing", "rank")
"""Options that stand once for all schedules that take them."""


def make_vdm(spec: DataSpec, config: Mapping[str, Any]) -> VDM:
    """Build the model that a whole configuration describes.

    Configurations of earlier revisions lack some sections, which then have their defaults.

    Args:
      spec: facts of the data set, of which shape and number of levels are used.
      config: the whole configuration.

    Raises:
      ConfigError: an unknown name or option, or values that do not fit each other.
    """
    denoiser, train = dict(config["denoiser"]), config["train"]
    if max(train.get("num_microbatches", 1), train.get("steps_per_call", 1)) > 1:
        # The network is in a loop already, so its convolutions had better be those made for loops.
        options = dict(denoiser.get(denoiser["name"], {}))
        if options.get("unroll", True) is None:
            denoiser[denoiser["name"]] = {**options, "unroll": False}
    sections = (config["model"], config["schedule"], denoiser, config.get("context"))
    model = make_model(spec, *sections)
    model = dataclasses.replace(model, objective=make_objective(config, model.time_map))
    objective_gradient(model)  # refuses what does not fit the schedule
    return model


def make_objective(config: Mapping[str, Any], gammas: tuple[float, float]) -> Objective:
    """Build the objective that section "objective" describes.

    Args:
      config: the whole configuration.
      gammas: (lowest, highest) gamma, over which the weight must be finite and not negative.
    """
    options = config["objective"]
    weighting = options.get("weight", {"name": "elbo"})
    name = weighting["name"]
    times = options.get("times", "uniform")
    return Objective(
        num_timesteps=options["num_timesteps"],
        interior_loss=options["interior_loss"],
        weight=make_weight(name, weighting.get(name, {}), gammas),
        adaptive_times=choose("config.objective.times", times, TIMES, "density of times"),
    )


def make_model(
    spec: DataSpec,
    model: Mapping,
    schedule: Mapping,
    denoiser: Mapping,
    context: Mapping | None = None,
) -> VDM:
    """Build the model that four sections of a configuration describe.

    Args:
      spec: facts of the data set, of which shape and number of levels are used.
      model: "parameterisation", "reconstruction" ("expected" or "sampled"), and "gamma_input" ("map" or
        "mean"; "map" where it is missing).
      schedule: "name", "gamma_0" and "gamma_1" (None: `default_gamma_0(L)` and 5), perhaps some of
        OF_SEVERAL_SCHEDULES, and under the schedule's name its own options.
      denoiser: "name", and under that name its own options.
      context: "name" ("none" for none), under that name its own options, and "encoder"; None = none.

    Raises:
      ConfigError: an unknown name or option, or values that do not fit each other.
    """
    # End points first: defaults and limits of gamma(0) depend on how fine the codes are.
    gamma_0, gamma_1 = schedule["gamma_0"], schedule["gamma_1"]
    endpoints = Endpoints(
        gamma_0=codes.default_gamma_0(spec.num_levels) if gamma_0 is None else float(gamma_0),
        gamma_1=5.0 if gamma_1 is None else float(gamma_1),
        max_gamma_0=codes.max_gamma_0(spec.num_levels),
    )

    # A fresh network that adds its input predicts z, which is a good start for eps alone.
    mode = model["reconstruction"]
    parameterisation = model["parameterisation"]
    choose("model.parameterisation", parameterisation, diffusion.TO_EPS, "parameterisation")
    options = {"add_input": parameterisation == "eps", **denoiser.get(denoiser["name"], {})}

    # A conditional schedule is built for the size of its context.
    context = context or {"name": NONE}
    drawn = make_context(context["name"], context.get(context["name"]))
    facts = {"shape": spec.shape, "context_size": 0 if drawn is None else drawn.size}
    facts |= {name: schedule[name] for name in OF_SEVERAL_SCHEDULES if name in schedule}
    built = make_schedule(schedule["name"], endpoints, schedule.get(schedule["name"]), facts)

    # The network takes a map of gamma only where gamma differs between pixels, so that the parameters
    # of networks for scalar schedules keep their shapes.
    gamma_input = model.get("gamma_input", "map")
    sees_map = choose("model.gamma_input", gamma_input, GAMMA_INPUTS, "input of the denoiser")
    if sees_map and not has_scalar_gamma(built):
        options["gamma_map"] = True
    # A schedule's own options may have replaced the end points, and the time map must follow.
    endpoints = getattr(built, "endpoints", endpoints)
    return VDM(
        shape=spec.shape,
        num_levels=spec.num_levels,
        schedule=built,
        denoiser=make_denoiser(denoiser["name"], spec.num_levels, options),
        parameterisation=parameterisation,
        expected_reconstruction=choose("model.reconstruction", mode, RECONSTRUCTIONS, "estimator"),
        time_map=(endpoints.gamma_0, endpoints.gamma_1),
        context=drawn,
        encoder=None if drawn is None else make_encoder(drawn, context.get("encoder")),
        sees_gamma_map=sees_map,
        schedule_name=schedule["name"],
    )
