"""The contract of a noise schedule, and all that follows from gamma(t) alone.

gamma(t) = -log SNR(t) increases strictly with t in [0, 1]. The process preserves variance:

    alpha^2 = sigmoid(-gamma),  sigma^2 = sigmoid(gamma),  SNR = exp(-gamma)   (Kingma 2021, sec. 3.2)
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from vdm.types import Context, Gamma, Params, PerExample, PRNGKey


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A noise schedule; a variant defines `init` and `gamma`, and may sharpen the rest.

    The parameters are a dictionary with at most two branches: "endpoints" (what moves gamma(0) and
    gamma(1)) and "shape" (what moves gamma only in between). Training treats the two differently.
    """

    @abc.abstractmethod
    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; `key` is consumed. Empty for a fixed schedule."""

    @abc.abstractmethod
    def gamma(self, params: Params, t: PerExample, context: Context | None = None) -> Gamma:
        """gamma(t) in float32 for times t [B], broadcastable to a latent.

        [B,1,1,1] for a scalar schedule, [B,H,W,C] for one per pixel. `context` [B,K] serves
        schedules that depend on the image; others ignore it.
        """

    def gamma_increment(
        self, params: Params, step: jax.Array, num_timesteps: int, context: Context | None = None
    ) -> Gamma:
        """gamma(i/T) - gamma((i-1)/T) for integer steps i in 1..T, [B] -> broadcastable to a latent.

        A schedule with a closed form overrides this: the difference of two float32 numbers loses
        5.8e-4 of the weight at T = 10^4.
        """
        t, s = step_times(step, num_timesteps)
        return self.gamma(params, t, context) - self.gamma(params, s, context)

    def end_gammas(self, params: Params, context: Context | None = None) -> tuple[Gamma, Gamma]:
        """(gamma(0), gamma(1)); overridden by a schedule whose pixels share them.

        One that takes a context must override it with ends that need none: training logs them.
        """
        batch = 1 if context is None else context.shape[0]
        gamma_0 = self.gamma(params, jnp.zeros((batch,)), context)
        gamma_1 = self.gamma(params, jnp.ones((batch,)), context)
        return gamma_0, gamma_1

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The only (H, W, C) it serves; None = any."""
        return None

    @property
    def context_size(self) -> int:
        """How many numbers `context` must hold per image; 0 = it takes none."""
        return 0

    def project(self, params: Params) -> Params:
        """The nearest valid parameters; applied after every update."""
        return params


def step_times(step: jax.Array, num_timesteps: int) -> tuple[PerExample, PerExample]:
    """(t, s) = (i/T, (i-1)/T) for integer steps i [B]; exact at 0 and 1."""
    step = step.astype(jnp.float32)
    # Compiled, a division by a constant is a product with its inverse, and T (1/T) is not always 1.
    total = jax.lax.optimization_barrier(jnp.float32(num_timesteps))
    return step / total, (step - 1.0) / total


def endpoints(
    schedule: Schedule, params: Params, context: Context | None = None
) -> tuple[Gamma, Gamma]:
    """(gamma(0), gamma(1)), each broadcastable to a latent: [1,1,1,1] where pixels share them."""
    return schedule.end_gammas(params, context)


def has_scalar_gamma(schedule: Schedule) -> bool:
    """Whether there is one gamma per time for all pixels and all images."""
    if schedule.context_size:
        return False
    gamma = lambda key: schedule.gamma(schedule.init(key), jnp.zeros(1))  # noqa: E731
    return jax.eval_shape(gamma, jax.random.key(0)).shape[1:] == (1, 1, 1)


def gamma_and_derivative(
    schedule: Schedule, params: Params, t: PerExample, context: Context | None = None
) -> tuple[Gamma, Gamma]:
    """(gamma(t), dgamma/dt) by forward differentiation; differentiable in `params` again."""
    return jax.jvp(lambda t: schedule.gamma(params, t, context), (t,), (jnp.ones_like(t),))


def alpha_squared(gamma: Gamma) -> Gamma:
    """sigmoid(-gamma), the signal's share of the variance."""
    return jax.nn.sigmoid(-gamma)


def sigma_squared(gamma: Gamma) -> Gamma:
    """sigmoid(gamma), the noise's share of the variance."""
    return jax.nn.sigmoid(gamma)


def alpha_sigma(gamma: Gamma) -> tuple[Gamma, Gamma]:
    """(alpha, sigma), the scales of signal and noise in z_t."""
    return jnp.sqrt(alpha_squared(gamma)), jnp.sqrt(sigma_squared(gamma))


def signal_to_noise(gamma: Gamma) -> Gamma:
    """SNR = exp(-gamma) = alpha^2 / sigma^2."""
    return jnp.exp(-gamma)


def per_example(t: PerExample) -> Gamma:
    """[B] -> [B,1,1,1], float32."""
    return t.astype(jnp.float32)[:, None, None, None]
