"""Weightings of the denoising term as functions of gamma = -log SNR:

    L_w = reconstruction + prior matching + 1/2 E[w(gamma_t) gamma'(t) |eps - eps_hat|^2]

w = 1 is the ELBO. A weight that does not decrease with gamma is, up to constants, a mixture over noise
levels of ELBOs of noise-augmented images; any other weight is no bound (Kingma & Gao 2023,
arXiv:2303.00848, sec. 3). The reported bits/dim is always the ELBO, whatever the weight. A fixed
function of gamma keeps its meaning under any schedule; "uniform in t" would not.
"""

import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vdm.errors import ConfigError, check_options, choose
from vdm.schedules.ddpm_beta_linear import step_gammas
from vdm.schedules.endpoints import GAMMA_LIMIT
from vdm.types import Gamma

Weight = Callable[[Gamma], jax.Array]
"""Function gamma -> w(gamma) >= 0, of the same shape."""


def elbo() -> None:
    """w = 1: the ELBO itself, a bound on log p(x)."""


def l_simple() -> Weight:
    """DDPM's L_simple (Ho et al. 2020, arXiv:2006.11239, eq. 14). No bound.

    It is the mean of |eps - eps_hat|^2 over DDPM's steps. At its own noise levels gamma_n, n = 2..1000,
    and with T = 999 steps, w undoes the bound's weight:
    w(gamma_n) = 2/(999 expm1(gamma_n - gamma_(n-1))). In between ln w is linear in gamma, below gamma_2
    and above gamma_1000 constant. It is nearly the density that DDPM's times have in gamma: a bell.
    """
    gammas = step_gammas()
    weights = 2.0 / ((len(gammas) - 1) * np.expm1(np.diff(gammas)))
    table = [np.asarray(values, np.float32) for values in (gammas[1:], np.log(weights))]
    return lambda gamma: jnp.exp(jnp.interp(gamma, *table))


def edm(mean: float = -1.2, deviation: float = 1.2, sigma_data: float = 0.5) -> Weight:
    """w = N(gamma; 2 m, (2 s)^2) (1 + e^gamma / sigma_data^2), sigma = e^(gamma/2). No bound.

    EDM's weight (sigma^2 + sigma_data^2)/(sigma sigma_data)^2 of |x - x_hat|^2 at ln sigma ~ N(m, s^2)
    (Karras et al. 2022, arXiv:2206.00364, table 1; Kingma & Gao 2023, table 1): a bell.
    """
    for name, value in (("deviation", deviation), ("sigma_data", sigma_data)):
        if not value > 0:
            raise ConfigError(f"objective.weight.edm.{name}={value}: must be positive")

    def weight(gamma):
        z = (0.5 * gamma - mean) / deviation
        density = jnp.exp(-0.5 * z * z) / (2.0 * deviation * np.sqrt(2.0 * np.pi))
        return density * (1.0 + jnp.exp(gamma) / sigma_data**2)

    return weight


def sigmoid(bias: float = 2.0) -> Weight:
    """w = sigmoid(gamma + bias): a bound, of noise-augmented images.

    It increases with gamma, so it is a mixture of ELBOs of z at noise levels round gamma = -bias, with
    the logistic density (Kingma & Gao 2023, sec. 3.2 and table 1).
    """
    return lambda gamma: jax.nn.sigmoid(gamma + bias)


def truncated(gamma_min: float = -5.0) -> Weight:
    """w = 1 where gamma >= gamma_min, else 0: a bound on log p(z) at that noise level, not on log p(x).

    It is the ELBO of images with just so much noise (Kingma & Gao 2023, sec. 3.2): the denoiser learns
    nothing below.
    """
    if not abs(gamma_min) <= GAMMA_LIMIT:
        raise ConfigError(
            f"objective.weight.truncated.gamma_min={gamma_min}: beyond every schedule; "
            f"choose a value within [-{GAMMA_LIMIT}, {GAMMA_LIMIT}]"
        )
    return lambda gamma: jnp.where(gamma >= gamma_min, 1.0, 0.0)


WEIGHTS = {
    "elbo": elbo,
    "l_simple": l_simple,
    "edm": edm,
    "sigmoid": sigmoid,
    "truncated": truncated,
}
"""{name: function (**options) -> Weight, or None for the bound itself}."""


def make_weight(name: str, options: Mapping, gammas: tuple[float, float]) -> Weight | None:
    """Build the weight `name`; None for the ELBO.

    Args:
      name: key of `WEIGHTS`.
      options: the weight's own options.
      gammas: (lowest, highest) gamma, over which it is checked on a grid.

    Raises:
      ConfigError: an unknown weight or option, or values that are not finite, negative or all 0.
    """
    build = choose("objective.weight.name", name, WEIGHTS, "weight")
    check_options(f"objective.weight.{name}", options, inspect.signature(build).parameters)
    weight = build(**options)
    if weight is None:
        return None
    grid = jnp.linspace(*gammas, 1001)
    values = np.asarray(weight(grid))
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        worst = int(np.argmax(wrong))
        raise ConfigError(
            f"objective.weight.name={name!r}: w({float(grid[worst]):.4g}) = {values[worst]:.4g}; "
            "a weight must be finite and not negative"
        )
    if not values.any():
        raise ConfigError(
            f"objective.weight.name={name!r}: 0 everywhere on gamma in [{gammas[0]:.4g}, "
            f"{gammas[1]:.4g}]; the denoiser would learn nothing"
        )
    return weight
