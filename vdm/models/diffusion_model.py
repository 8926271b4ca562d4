"""The contract of a Gaussian diffusion model, which tools about noise levels need besides `Model`'s.

    z_t = alpha_t x + sigma_t eps,   gamma(t) = -log SNR(t) = -ln(alpha_t^2/sigma_t^2)

(Kingma et al. 2021, arXiv:2107.00630, sec. 3.1.) Bounds over trajectories, the probability-flow ODE,
samplers and the analyses of schedules ask a model for gamma(t) and eps_hat here, never for a branch of
its parameters.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdm.distributions.base import ContextModel, Draw
from vdm.models.base import Model
from vdm.schedules.base import Schedule, endpoints, gamma_and_derivative, has_scalar_gamma
from vdm.types import Context, Gamma, Known, Latents, Params, PerExample, PRNGKey


class DiffusionModel(Model):
    """A model of z_t = alpha_t x + sigma_t eps, with a network that predicts eps.

    The schedule's parameters are the branch "schedule".

    Attributes:
      schedule: t -> gamma.
      parameterisation: quantity that the network predicts: "eps", "x", "v" or "score".
      expected_reconstruction: whether the reconstruction term is an exact expectation over z_0.
      time_map: (a, b): the network sees (gamma - a)/(b - a).
      context: q(c|x) and p(c) of a conditional schedule's context; None for any other.
      encoder: network behind q(c|x), see `vdm.networks.encoder`; None without a context.
      objective: quantity that training descends, with T of the bound (`num_timesteps`).
    """

    schedule: Schedule
    parameterisation: str
    expected_reconstruction: bool
    time_map: tuple[float, float]
    context: ContextModel | None
    encoder: Any
    objective: Any

    def as_diffusion(self, what: str) -> "DiffusionModel":
        """Return this model."""
        del what
        return self

    @property
    def has_scalar_gamma(self) -> bool:
        """True if there is one gamma per time for all pixels and images."""
        return has_scalar_gamma(self.schedule)

    @property
    def has_context(self) -> bool:
        """True if the schedule is conditional on a context."""
        return self.context is not None

    @property
    def draw_context(self) -> Callable[[PRNGKey], jax.Array] | None:
        """Function key -> the noise of one image's context; None for a model without a context."""
        return None if self.context is None else self.context.draw_noise

    @abc.abstractmethod
    def with_reconstruction(self, expected: bool) -> "DiffusionModel":
        """Return this model with the reconstruction term in expectation over z_0, or from one draw."""

    @abc.abstractmethod
    def encode(
        self,
        params: Params,
        x: Latents,
        noise: jax.Array | None,
        *,
        train: bool = False,
        relaxed: bool | None = None,
    ) -> Draw | None:
        """Draw c ~ q(c|x) with its KL; None for a model without a context.

        Args:
          params: parameters with the branch "encoder".
          x: images in [-1, 1] [B,H,W,C].
          noise: `Noise.context` [B,...], see `vdm.models.vdm.noise`.
          train: whether the draw is for training, where a discrete context is relaxed.
          relaxed: whether to relax it; None = as `train` says.
        """

    def sample_context(self, keys: PRNGKey) -> Context | None:
        """Draw c ~ p(c) from one key per image [B]; None for a model without a context."""
        if self.context is None:
            return None
        return self.context.prior(jax.vmap(self.context.draw_noise)(keys))

    @abc.abstractmethod
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
        """Return eps_hat(z_t, gamma_t, known) [B,H,W,C].

        Args:
          params: the model's parameters.
          z: noisy latents z_t [B,H,W,C].
          gamma: their noise levels, broadcastable to z.
          known: side information of each image, its augmentation flag [B] and context [B,K].
          train: whether dropout is on.
          dropout_key: key of dropout, consumed when training.
        """

    def predict(self, params: Params, z: Latents, gamma: Gamma, known: Known) -> Latents:
        """Return eps_hat(z, gamma, known) [B,H,W,C] without dropout; arguments as in `predict_eps`."""
        return self.predict_eps(params, z, gamma, known)

    def gamma(self, params: Params, t: PerExample, context: Context | None = None) -> Gamma:
        """Return gamma(t) for times t [B] in [0, 1], broadcastable to a latent."""
        return self.schedule.gamma(params["schedule"], t, context)

    def gamma_and_derivative(
        self, params: Params, t: PerExample, context: Context | None = None
    ) -> tuple[Gamma, Gamma]:
        """Return (gamma(t), dgamma/dt) for times t [B]."""
        return gamma_and_derivative(self.schedule, params["schedule"], t, context)

    def gamma_increment(
        self, params: Params, step: jax.Array, num_timesteps: int, context: Context | None = None
    ) -> Gamma:
        """Return gamma(i/T) - gamma((i-1)/T), computed without cancellation.

        Args:
          params: the model's parameters.
          step: integer steps i in 1..T [B].
          num_timesteps: T.
          context: c of each image [B,K], for a conditional schedule.
        """
        return self.schedule.gamma_increment(params["schedule"], step, num_timesteps, context)

    def end_gammas(self, params: Params, context: Context | None = None) -> tuple[Gamma, Gamma]:
        """Return (gamma(0), gamma(1)), each broadcastable to a latent."""
        return endpoints(self.schedule, params["schedule"], context)

    def noise_range(self, params: Params) -> tuple[float, float]:
        """Return (min gamma(0), max gamma(1)) over pixels."""
        gamma_0, gamma_1 = self.end_gammas(params)
        return float(jnp.min(gamma_0)), float(jnp.max(gamma_1))
