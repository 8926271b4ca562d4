"""The contract of a noise schedule, and the quantities that follow from gamma(t) alone.

gamma(t) = -log SNR(t) increases strictly with t in [0, 1]. The process preserves variance:

    z_t = alpha x + sigma eps
    alpha^2 = sigmoid(-gamma),  sigma^2 = sigmoid(gamma),  SNR = alpha^2 / sigma^2 = exp(-gamma)

Source: Kingma et al. 2021 (arXiv:2107.00630), sec. 3.2, with gamma for the gamma_eta(t) there.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from vdm.types import Context, Gamma, Params, PerExample, PRNGKey


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A noise schedule. A variant defines `init` and `gamma`, and may sharpen the rest.

    Parameters are a dictionary with at most two branches, because training treats them
    differently: "endpoints" moves gamma(0) and gamma(1) and follows the bound; "shape" moves the
    interior, gamma between them, and may minimise the variance of the bound instead. The second
    key keeps that name because checkpoints address arrays by it. A schedule is frozen and
    hashable: it serves as a static argument of compiled functions.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKey) -> Params:
        """Return fresh parameters, an empty dictionary for a fixed schedule; `key` is consumed."""

    @abc.abstractmethod
    def gamma(self, params: Params, t: PerExample, context: Context | None = None) -> Gamma:
        """Return gamma(t) in float32, broadcastable to a latent [B,H,W,C].

        The result is [B,1,1,1] for a scalar schedule and [B,H,W,C] for one per pixel.

        Args:
          params: the parameters, as from `init`.
          t: times [B] in [0, 1].
          context: what a conditional schedule knows of each image [B,K]; other schedules ignore
            it.
        """

    def gamma_increment(
        self, params: Params, step: jax.Array, num_timesteps: int, context: Context | None = None
    ) -> Gamma:
        """Return gamma(i/T) - gamma((i-1)/T), broadcastable to a latent.

        A schedule with a closed form overrides this: the difference of two float32 numbers loses
        5.8e-4 of the weight at T = 10^4.

        Args:
          params: the parameters, as from `init`.
          step: integer steps i in 1..T [B].
          num_timesteps: T.
          context: as in `gamma`.
        """
        t, s = step_times(step, num_timesteps)
        return self.gamma(params, t, context) - self.gamma(params, s, context)

    def end_gammas(self, params: Params, context: Context | None = None) -> tuple[Gamma, Gamma]:
        """Return (gamma(0), gamma(1)), each broadcastable to a latent.

        A schedule whose pixels share the end points overrides this with [1,1,1,1]. A conditional
        schedule must override it with values that need no context, because training logs them.
        """
        batch = 1 if context is None else context.shape[0]
        gamma_0 = self.gamma(params, jnp.zeros((batch,)), context)
        gamma_1 = self.gamma(params, jnp.ones((batch,)), context)
        return gamma_0, gamma_1

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The only image shape (H, W, C) that the schedule serves; None for any."""
        return None

    @property
    def context_size(self) -> int:
        """The length K of the context that the schedule needs; 0 for none."""
        return 0

    def project(self, params: Params) -> Params:
        """Return the nearest valid parameters; training applies this after every update."""
        return params


def step_times(step: jax.Array, num_timesteps: int) -> tuple[PerExample, PerExample]:
    """Return (t, s) = (i/T, (i-1)/T) for integer steps i [B]; exact at 0 and 1."""
    step = step.astype(jnp.float32)
    # Compiled, a division by a constant is a product with its inverse, and T (1/T) is not always 1.
    total = jax.lax.optimization_barrier(jnp.float32(num_timesteps))
    return step / total, (step - 1.0) / total


def endpoints(
    schedule: Schedule, params: Params, context: Context | None = None
) -> tuple[Gamma, Gamma]:
    """Return (gamma(0), gamma(1)), each [1,1,1,1], or broadcastable to a latent if pixels differ."""
    return schedule.end_gammas(params, context)


def has_scalar_gamma(schedule: Schedule) -> bool:
    """Return whether there is one gamma per time for all pixels of all images."""
    if schedule.context_size:
        return False
    # Only shapes are traced: no parameter is drawn and nothing is compiled.
    gamma = lambda key: schedule.gamma(schedule.init(key), jnp.zeros(1))  # noqa: E731
    return jax.eval_shape(gamma, jax.random.key(0)).shape[1:] == (1, 1, 1)


def gamma_and_derivative(
    schedule: Schedule, params: Params, t: PerExample, context: Context | None = None
) -> tuple[Gamma, Gamma]:
    """Return (gamma(t), dgamma/dt) by forward differentiation; both are differentiable in `params`.

    Forward mode suits a function of one number per image: one pass gives both, and a reverse pass
    over it gives the gradient of the continuous-time bound.

    Args:
      schedule: the schedule.
      params: its parameters.
      t: times [B].
      context: contexts [B,K] for a conditional schedule.
    """
    return jax.jvp(lambda t: schedule.gamma(params, t, context), (t,), (jnp.ones_like(t),))


def alpha_squared(gamma: Gamma) -> Gamma:
    """Return sigmoid(-gamma), the signal's share of the variance."""
    return jax.nn.sigmoid(-gamma)


def sigma_squared(gamma: Gamma) -> Gamma:
    """Return sigmoid(gamma), the noise's share of the variance."""
    return jax.nn.sigmoid(gamma)


def alpha_sigma(gamma: Gamma) -> tuple[Gamma, Gamma]:
    """Return (alpha, sigma), the scales of signal and noise in z_t."""
    return jnp.sqrt(alpha_squared(gamma)), jnp.sqrt(sigma_squared(gamma))


def signal_to_noise(gamma: Gamma) -> Gamma:
    """Return SNR = exp(-gamma) = alpha^2 / sigma^2."""
    return jnp.exp(-gamma)


def per_example(t: PerExample) -> Gamma:
    """Return one float32 value per image [B] as [B,1,1,1], broadcastable to a latent."""
    return t.astype(jnp.float32)[:, None, None, None]
