"""A variational diffusion model: schedule, denoiser and decoder joined over one parameter tree."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm import diffusion
from vdm.distributions import NONE, ContextModel, Draw, codes, make_context
from vdm.errors import ConfigError, choose
from vdm.networks import make_denoiser
from vdm.networks.encoder import make_encoder
from vdm.schedules import Endpoints, Schedule, make_schedule
from vdm.schedules.base import has_scalar_gamma
from vdm.types import Conditioning, Context, DataSpec, Gamma, Latents, Params, PRNGKey

RECONSTRUCTIONS = {"expected": True, "sampled": False}
GAMMA_INPUTS = {"map": True, "mean": False}
"""Whether the denoiser sees all of gamma and the context, or the mean of gamma alone."""
_ENCODER_KEY = 2  # beyond those that the split of `VDM.init` gives


@dataclasses.dataclass(frozen=True)
class VDM:
    """Pure functions over params = {"schedule": ..., "denoiser": ...} and, with a context, "encoder".

    Attributes:
      shape: (H, W, C) of an image.
      num_levels: integer codes per channel.
      schedule: t -> gamma.
      denoiser: see `vdm.networks.base`.
      parameterisation: what the denoiser's output means: "eps", "x", "v" or "score".
      expected_reconstruction: take the reconstruction term in expectation over z_0 (no noise), or from
        one draw of z_0.
      time_map: (a, b): the denoiser sees (gamma - a)/(b - a). Constants: were they the current end
        points, a fixed network would depend on them, and so would their gradient.
      context: q(c|x) and p(c) of what an input-conditional schedule knows of an image; None = nothing.
      encoder: the network behind q(c|x), see `vdm.networks.encoder`.
      sees_gamma_map: whether the denoiser gets gamma as a map, and c, so that it can be a posterior
        mean at any gamma; otherwise the mean of gamma alone, as in MuLAN, and then the bound of a
        network depends on gamma's path (see `vdm.schedules.per_pixel.base`). All one for a scalar
        gamma.
    """

    shape: tuple[int, int, int]
    num_levels: int
    schedule: Schedule
    denoiser: nn.Module
    parameterisation: str
    expected_reconstruction: bool
    time_map: tuple[float, float]
    context: ContextModel | None = None
    encoder: nn.Module | None = None
    sees_gamma_map: bool = True

    def __post_init__(self):
        kind, built_for = type(self.schedule).__name__, self.schedule.image_shape
        if built_for not in (None, tuple(self.shape)):
            raise ConfigError(
                f"schedule: {kind} was built for images of shape {built_for}, the model is for "
                f"{tuple(self.shape)}; build it for these"
            )
        have = 0 if self.context is None else self.context.size
        if self.schedule.context_size != have:
            raise ConfigError(
                f"context: the schedule {kind} takes {self.schedule.context_size or 'no'} numbers per "
                f"image and the context gives {have or 'none'}; choose context.name=gaussian or "
                "categorical with a conditional schedule, and none with any other"
            )

    @property
    def has_scalar_gamma(self) -> bool:
        """Whether there is one gamma per time for all pixels and images."""
        return has_scalar_gamma(self.schedule)

    @property
    def draw_context(self):
        """What `vdm.models.vdm.noise` draws the noise of contexts with; None without a context."""
        return None if self.context is None else self.context.draw_noise

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; `key` is consumed."""
        key_schedule, key_denoiser = jax.random.split(key)
        z, flag = jnp.zeros((1, *self.shape)), jnp.zeros((1,))
        time = jnp.zeros((1, 1, 1, 1))
        if self.context is not None:
            flag = self._told(flag, jnp.zeros((1, self.context.size)))
        variables = self.denoiser.init(key_denoiser, z, time, flag, False)
        params = {
            "schedule": self.schedule.init(key_schedule),
            "denoiser": variables.get("params", {}),
        }
        if self.encoder is not None:
            found = self.encoder.init(jax.random.fold_in(key, _ENCODER_KEY), z)
            params["encoder"] = found["params"]
        return params

    def encode(
        self,
        params: Params,
        x: Latents,
        noise: jax.Array | None,
        *,
        train: bool = False,
        relaxed: bool | None = None,
    ) -> Draw | None:
        """c ~ q(c|x) with its price, see `vdm.distributions.base`; None for a model without a context.

        Args:
          params: need the branch "encoder".
          x: images in [-1, 1] [B,H,W,C].
          noise: of `Noise.context` [B,...].
          train: whether this is training, where a discrete context is relaxed.
          relaxed: asks for it, or for a hard one; None = as `train` says.

        Raises:
          ConfigError: parameters or noise without a context, or a relaxed one outside training.
        """
        if self.context is None:
            return None
        if relaxed and not train:
            raise ConfigError(
                "relaxed=True: a relaxed context is no draw from q(c|x), and what is charged is not "
                "its price, so that evaluation would give no bound; leave it to training"
            )
        if "encoder" not in params:
            raise ConfigError(
                f"params: the model has a {type(self.context).__name__} context, and its encoder's "
                f"parameters are missing (branches: {', '.join(sorted(params))}); "
                "take them from model.init or from a checkpoint of this configuration"
            )
        if noise is None:
            raise ConfigError(
                "noise.context: the model has a context, and its noise was not drawn; "
                "pass model.draw_context to training_noise or evaluation_noise"
            )
        statistics: Any = self.encoder.apply({"params": params["encoder"]}, x)  # type: ignore[union-attr]
        return self.context.posterior(statistics, noise, train if relaxed is None else relaxed)

    def sample_context(self, keys: PRNGKey) -> Context | None:
        """c ~ p(c) from one key per image [B]; None for a model without a context."""
        if self.context is None:
            return None
        return self.context.prior(jax.vmap(self.context.draw_noise)(keys))

    def _told(self, flag: jax.Array, context: Context | None) -> jax.Array:
        """What the denoiser is told of each image besides gamma: [B], or [B,1+K] with a context."""
        if context is None or not self.sees_gamma_map:
            return flag
        return jnp.concatenate([flag.astype(jnp.float32)[:, None], context], axis=1)

    def predict_eps(
        self,
        params: Params,
        z: Latents,
        gamma: Gamma,
        conditioning: Conditioning,
        *,
        context: Context | None = None,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
    ) -> Latents:
        """eps_hat(z_t, gamma_t, c) [B,H,W,C]; `dropout_key` is consumed when training."""
        low, high = self.time_map
        time = (gamma - low) / (high - low)
        if not self.sees_gamma_map and gamma.shape[1:] != (1, 1, 1):
            time = jnp.mean(time, axis=(1, 2, 3), keepdims=True)
        prediction: Any = self.denoiser.apply(
            {"params": params["denoiser"]},
            z,
            time,
            self._told(jnp.asarray(conditioning), context) if context is not None else conditioning,
            train,
            rngs={} if dropout_key is None else {"dropout": dropout_key},
        )
        return diffusion.to_eps(self.parameterisation, prediction, z, gamma)


def make_model(
    spec: DataSpec,
    model: Mapping,
    schedule: Mapping,
    denoiser: Mapping,
    context: Mapping | None = None,
) -> VDM:
    """The model a configuration describes, for data of `spec`.

    Args:
      spec: gives shape and number of levels.
      model: "parameterisation", "reconstruction" ("expected" or "sampled"), and "gamma_input" ("map" or
        "mean"; "map" where it is missing).
      schedule: "name", "gamma_0" and "gamma_1" (None: `default_gamma_0(L)` and 5), and under the
        schedule's name its own options.
      denoiser: "name", and under that name its own options.
      context: "name" ("none" for none), under that name its own options, and "encoder"; None = none.

    Raises:
      ConfigError: for a name or option that does not exist, or values that do not fit.
    """
    gamma_0, gamma_1 = schedule["gamma_0"], schedule["gamma_1"]
    endpoints = Endpoints(
        gamma_0=codes.default_gamma_0(spec.num_levels) if gamma_0 is None else float(gamma_0),
        gamma_1=5.0 if gamma_1 is None else float(gamma_1),
        max_gamma_0=codes.max_gamma_0(spec.num_levels),
    )
    mode = model["reconstruction"]
    parameterisation = model["parameterisation"]
    choose("model.parameterisation", parameterisation, diffusion.TO_EPS, "parameterisation")
    options = {"add_input": parameterisation == "eps", **denoiser.get(denoiser["name"], {})}
    context = context or {"name": NONE}
    drawn = make_context(context["name"], context.get(context["name"]))
    facts = {"shape": spec.shape, "context_size": 0 if drawn is None else drawn.size}
    built = make_schedule(schedule["name"], endpoints, schedule.get(schedule["name"]), facts)
    told = model.get("gamma_input", "map")
    sees_map = choose("model.gamma_input", told, GAMMA_INPUTS, "input of the denoiser")
    if sees_map and not has_scalar_gamma(built):
        options["gamma_map"] = True
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
        context=drawn,
        encoder=None if drawn is None else make_encoder(drawn, context.get("encoder")),
        sees_gamma_map=sees_map,
    )


def count_parameters(params: Params) -> int:
    """Number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
