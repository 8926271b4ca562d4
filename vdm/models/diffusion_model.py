"""The further contract of a Gaussian diffusion model, for tools that are about noise levels.

Bounds over trajectories, the probability-flow ODE, samplers and the analyses of schedules need gamma(t)
and eps_hat besides what every family has. They ask for them here, never for a branch of `params`.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax

from vdm.distributions.base import ContextModel, Draw
from vdm.models.base import Model
from vdm.schedules.base import Schedule
from vdm.types import Context, Gamma, Known, Latents, Params, PerExample, PRNGKey


class DiffusionModel(Model):
    """A model of z_t = alpha_t x + sigma_t eps, with a network that predicts eps.

    Attributes:
      schedule: t -> gamma.
      parameterisation: what the network's output means: "eps", "x", "v" or "score".
      expected_reconstruction: whether the reconstruction term is an exact expectation over z_0.
      time_map: (a, b): the network sees (gamma - a)/(b - a).
      context: q(c|x) and p(c) of what a schedule knows of each image; None = nothing.
      objective: what training descends along, with T of the bound (`num_timesteps`).
    """

    schedule: Schedule
    parameterisation: str
    expected_reconstruction: bool
    time_map: tuple[float, float]
    context: ContextModel | None
    objective: Any

    def as_diffusion(self, what: str) -> "DiffusionModel":
        """This model."""
        del what
        return self

    @property
    @abc.abstractmethod
    def has_scalar_gamma(self) -> bool:
        """Whether there is one gamma per time for all pixels and images."""

    @property
    @abc.abstractmethod
    def draw_context(self) -> Callable[[PRNGKey], jax.Array] | None:
        """key -> the noise of one image's context; None for a model without a context."""

    @abc.abstractmethod
    def with_reconstruction(self, expected: bool) -> "DiffusionModel":
        """This model with the reconstruction term in expectation over z_0, or from one draw."""

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
        """c ~ q(c|x) with its KL; None for a model without a context."""

    @abc.abstractmethod
    def sample_context(self, keys: PRNGKey) -> Context | None:
        """c ~ p(c) from one key per image [B]; None for a model without a context."""

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
        """eps_hat(z_t, gamma_t, c) [B,H,W,C]; `dropout_key` is consumed when training."""

    def predict(self, params: Params, z: Latents, gamma: Gamma, known: Known) -> Latents:
        """eps_hat(z, gamma) [B,H,W,C] given what is known of each image, without dropout."""
        return self.predict_eps(params, z, gamma, known)

    @abc.abstractmethod
    def gamma(self, params: Params, t: PerExample, context: Context | None = None) -> Gamma:
        """gamma(t) for times t [B], broadcastable to a latent."""

    @abc.abstractmethod
    def gamma_and_derivative(
        self, params: Params, t: PerExample, context: Context | None = None
    ) -> tuple[Gamma, Gamma]:
        """(gamma(t), dgamma/dt) for times t [B]."""

    @abc.abstractmethod
    def gamma_increment(
        self, params: Params, step: jax.Array, num_timesteps: int, context: Context | None = None
    ) -> Gamma:
        """gamma(i/T) - gamma((i-1)/T) for integer steps i in 1..T [B]."""

    @abc.abstractmethod
    def end_gammas(self, params: Params, context: Context | None = None) -> tuple[Gamma, Gamma]:
        """(gamma(0), gamma(1)), each broadcastable to a latent."""
