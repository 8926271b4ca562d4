"""The model of a VDM: schedule, denoiser, decoder and contexts over one tree of parameters."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vdm import diffusion
from vdm.distributions import ContextModel, Draw
from vdm.errors import ConfigError
from vdm.models.chain import Chain
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.means import Metrics
from vdm.models.records import Support, TermMaps, TermsFn
from vdm.models.vdm.contexts import encode
from vdm.models.vdm.elbo import elbo_terms
from vdm.models.vdm.groups import group_kinds, group_labels
from vdm.models.vdm.latents import latent_chain
from vdm.models.vdm.maps import paired_terms, term_maps
from vdm.models.vdm.noise import Noise, all_evaluation_times, evaluation_noise, training_noise
from vdm.models.vdm.objective import DEFAULT_OBJECTIVE, Objective, descend
from vdm.models.vdm.time_density import TimeDensity, init_density
from vdm.schedules import Schedule
from vdm.types import (
    Batch,
    Context,
    ElboTerms,
    Gamma,
    Index,
    Known,
    Latents,
    Params,
    PRNGKey,
)

_ENCODER_KEY = 2  # folded into the key, so that other parameters start the same without it


@dataclasses.dataclass(frozen=True)
class VDM(DiffusionModel):
    """A VDM (Kingma et al. 2021, arXiv:2107.00630) as pure functions over its parameters.

    They are {"schedule": ..., "denoiser": ...} and, with a context, "encoder".

    Attributes:
      shape: (H, W, C) of an image.
      num_levels: number of integer codes per channel.
      schedule: t -> gamma.
      denoiser: network that predicts, see `vdm.networks.base`.
      parameterisation: quantity that the denoiser predicts: "eps", "x", "v" or "score".
      expected_reconstruction: whether the reconstruction term is an exact expectation over z_0, or
        taken from one draw of z_0.
      time_map: (a, b): the denoiser sees (gamma - a)/(b - a). Constants, not the learned gamma(0) and
        gamma(1): otherwise the network's input, and hence the gradient of the end points, would
        depend on the schedule's parameters.
      context: q(c|x) and p(c) of a conditional schedule's context; None for any other.
      encoder: network behind q(c|x), see `vdm.networks.encoder`; None without a context.
      sees_gamma_map: whether the denoiser gets gamma as a map, and c, so that it can be a posterior
        mean at any gamma; otherwise the mean of gamma alone, as in MuLAN (Sahoo et al. 2023,
        arXiv:2312.13236), and then the bound of a network depends on gamma's path (see
        `vdm.schedules.per_pixel.base`). Has no effect for a scalar gamma.
      objective: training objective, with T of the bound.
      schedule_name: key of the schedule in `vdm.schedules.SCHEDULES`, for records.
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
    objective: Objective = DEFAULT_OBJECTIVE
    schedule_name: str = ""

    family: ClassVar[str] = "vdm"

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

    def init(self, key: PRNGKey) -> Params:
        """Return fresh parameters; `key` is consumed."""
        # Random keys are part of reproducibility: an additional branch must not change this split.
        key_schedule, key_denoiser = jax.random.split(key)
        z, time = jnp.zeros((1, *self.shape)), jnp.zeros((1, 1, 1, 1))
        context = None if self.context is None else jnp.zeros((1, self.context.size))
        known = self._shown_to_denoiser(Known(jnp.zeros(1), context=context))
        variables = self.denoiser.init(key_denoiser, z, time, known, False)
        params = {
            "schedule": self.schedule.init(key_schedule),
            "denoiser": variables.get("params", {}),
        }
        if self.encoder is not None:
            encoder_variables = self.encoder.init(jax.random.fold_in(key, _ENCODER_KEY), z)
            params["encoder"] = encoder_variables["params"]
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
        """Draw c ~ q(c|x) with its KL, see `vdm.models.vdm.contexts`."""
        return encode(self, params, x, noise, train=train, relaxed=relaxed)

    def _shown_to_denoiser(self, known: Known) -> Known:
        """Withhold the context from a denoiser that sees the mean of gamma alone."""
        return known if self.sees_gamma_map else dataclasses.replace(known, context=None)

    def predict_eps(
        self,
        params: Params,
        z: Latents,
        gamma: Gamma,
        known: Known,
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
    ) -> Latents:
        """Return eps_hat(z_t, gamma_t, known) [B,H,W,C], see `DiffusionModel.predict_eps`."""
        # The map of gamma is affine and constant, see `time_map`.
        low, high = self.time_map
        time = (gamma - low) / (high - low)
        if not self.sees_gamma_map and gamma.shape[1:] != (1, 1, 1):
            time = jnp.mean(time, axis=(1, 2, 3), keepdims=True)
        prediction: Any = self.denoiser.apply(
            {"params": params["denoiser"]},
            z,
            time,
            self._shown_to_denoiser(known),
            train,
            rngs={} if dropout_key is None else {"dropout": dropout_key},
        )
        return diffusion.to_eps(self.parameterisation, prediction, z, gamma)

    def training_noise(self, key: PRNGKey, batch_size: int) -> Noise:
        """Draw one jittered time in each of B strata, eps, eps_0 and the contexts' noise."""
        return training_noise(key, batch_size, self.shape, self.draw_context)

    def evaluation_noise(self, seed: int, randomisation, repeat, index: Index) -> Noise:
        """Draw evenly spread times, eps, eps_0 and contexts' noise, see `vdm.models.vdm.noise`."""
        return evaluation_noise(seed, randomisation, repeat, index, self.shape, self.draw_context)

    def evaluation_times(
        self, seed: int, repeats: int, randomisations: int, index: Index
    ) -> np.ndarray:
        """Return the uniform times of `evaluation_noise` [repeats, randomisations, N]."""
        return np.asarray(all_evaluation_times(seed, repeats, randomisations, jnp.asarray(index)))

    def terms(
        self,
        params: Params,
        batch: Batch,
        noise: Noise,
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
    ) -> ElboTerms:
        """Return the terms of the bound at T of the objective, see `vdm.models.vdm.elbo`."""
        steps = self.objective.num_timesteps
        return elbo_terms(self, params, batch, noise, steps, train=train, dropout_key=dropout_key)

    def with_timesteps(self, num_timesteps: int) -> "VDM":
        """Return this model with a bound of T steps, or in continuous time (T = 0)."""
        objective = dataclasses.replace(self.objective, num_timesteps=num_timesteps)
        return dataclasses.replace(self, objective=objective)

    def with_reconstruction(self, expected: bool) -> "VDM":
        """Return this model with the reconstruction term in expectation over z_0, or from one draw."""
        return dataclasses.replace(self, expected_reconstruction=expected)

    @property
    def timesteps_train(self) -> int:
        """T of the objective, 0 = continuous time."""
        return self.objective.num_timesteps

    def init_state(self) -> TimeDensity | None:
        """Return the density of adaptive times before the first batch; None for uniform times."""
        return init_density() if self.objective.adaptive_times else None

    def gradient(
        self, params: Params, state: TimeDensity | None, batch: Batch, noise: Noise, key: PRNGKey
    ) -> tuple[Params, TimeDensity | None, Metrics]:
        """Return every group's gradient, the next state and metrics, see `vdm.models.vdm.objective`."""
        return descend(self, params, state, batch, noise, key)

    def groups(self, params: Params) -> Params:
        """Return the parameter group of every leaf, see `vdm.models.vdm.groups`."""
        return group_labels(params)

    def group_kinds(self) -> dict[str, str]:
        """Return {group: kind of its optimizer}, see `vdm.models.vdm.groups`."""
        return group_kinds(self.encoder is not None)

    def project(self, params: Params) -> Params:
        """Return the parameters with the nearest valid schedule."""
        return {**params, "schedule": self.schedule.project(params["schedule"])}

    def facts(self) -> dict[str, Any]:
        """Return family, T of training, schedule, and the dtype that the network computes in."""
        return {
            "family": self.family,
            "timesteps_train": self.timesteps_train,
            "schedule": self.schedule_name,
            "dtype": jnp.dtype(getattr(self.denoiser, "dtype", "float32")).name,
        }

    def supports(self) -> Support:
        """Return support for all bounds and samplers; one may still refuse a schedule or context."""
        return Support(bounds=None, samplers=None, codec=True)

    def term_maps(self, params: Params, batch: Batch, noise: Noise) -> TermMaps:
        """Return the terms of every image per dimension, at T of the objective."""
        return term_maps(self, params, batch, noise)

    def paired_terms(self, gammas: tuple[float, float]) -> TermsFn:
        """Return terms in continuous time with noise that models share, see `vdm.models.vdm.maps`."""
        return paired_terms(self, gammas)

    def chain(
        self, params: Params, num_timesteps: int = 0, context: Context | None = None
    ) -> Chain:
        """Return the model at T steps as a chain of T + 1 latents, see `vdm.models.vdm.latents`."""
        return latent_chain(self, params, num_timesteps, context)
