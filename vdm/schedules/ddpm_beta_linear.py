"""The linear beta schedule of DDPM, at its thousand steps and in its continuous limit.

DDPM: Ho et al. 2020 (arXiv:2006.11239), sec. 4. Continuous limit: Song et al. 2021
(arXiv:2011.13456), eq. 32.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from vdm.schedules.between import Between, rescaled
from vdm.schedules.endpoints import Endpoints

NUM_BETAS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02
"""The variances beta_1 and beta_1000 of DDPM."""


@dataclasses.dataclass(frozen=True)
class DdpmBetaLinear(Between):
    """gamma = ln expm1(B(n)),  n(t) = 1 + 999 t,  B(n) = -ln of DDPM's abar_n

        discrete    B(n) = -sum_{i=1..n} ln(1 - beta_i),  beta_i = 1e-4 + (i - 1)(.02 - 1e-4)/999
        continuous  B(n) = .1 u + 19.9 u^2/2,  u = n/1000

    Both are polynomials in n. The discrete one meets DDPM's abar_n at every integer n and is
    smooth in between, so that T = 999 steps here are exactly its steps from x_1000 to x_1. Time
    starts at n = 1 because gamma is -inf at n = 0. Between the end points of a configuration gamma
    is rescaled, (gamma - gamma(0))/(gamma(1) - gamma(0)).

    Attributes:
      endpoints: constants, those of the configuration or the schedule's own: -9.210 and 10.119
        (discrete), -9.115 and 10.050 (continuous).
      coefficients: coefficients of B(n), lowest power first.
    """

    coefficients: tuple[float, ...]

    def share(self, interior, t, context=None):
        return rescaled(self._native, t)

    def share_rise(self, interior, s, t, num_timesteps, context=None):
        start, end = jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
        whole = self._native_rise(start, end, 1.0)
        return self._native_rise(s, t, 1.0 / num_timesteps), whole

    def _native(self, t):
        """Return DDPM's own gamma at the times t, before it is rescaled to the end points."""
        return jnp.log(jnp.expm1(self._divided(_position(t), _position(t))[0]))

    def _native_rise(self, s, t, width):
        """Return ln expm1(B_t)/expm1(B_s), from B_t - B_s, which cancels nothing."""
        b_s, slope = self._divided(_position(s), _position(t))
        rise = slope * (NUM_BETAS - 1) * width
        return jnp.log1p(jnp.expm1(rise) / -jnp.expm1(-b_s))

    def _divided(self, a, b):
        """Return (B(a), (B(b) - B(a))/(b - a)), by Horner's rule for both."""
        value, slope = jnp.zeros_like(a), jnp.zeros_like(a)
        for coefficient in self.coefficients[::-1]:
            # The order matters: the divided difference takes the value from before this
            # coefficient.
            slope = slope * b + value
            value = value * a + coefficient
        return value, slope


def _position(t):
    """Return DDPM's step number n as a real number."""
    return 1.0 + (NUM_BETAS - 1) * t


def _betas() -> np.ndarray:
    """Return beta_1 .. beta_1000 [1000], float64."""
    return FIRST_BETA + (LAST_BETA - FIRST_BETA) * np.arange(NUM_BETAS) / (NUM_BETAS - 1)


def step_gammas() -> np.ndarray:
    """Return gamma_n = ln((1 - abar_n)/abar_n) at DDPM's n = 1..1000, from its betas, in float64."""
    return np.log(np.expm1(-np.cumsum(np.log1p(-_betas()))))


def _discrete() -> tuple[float, ...]:
    """Return the coefficients of B(n) = sum_m 1/m sum_i beta_i^m.

    The series of -ln(1 - beta) stops at m = 5: higher powers are below 1e-9 of it. A sum over i of
    a polynomial of degree 5 is one of degree 6, so seven values determine it.
    """
    powers = sum(_betas() ** m / m for m in range(1, 6))
    total = np.concatenate([[0.0], np.cumsum(powers)])
    nodes = np.linspace(0, NUM_BETAS, 7).round().astype(int)
    polynomial = np.polynomial.Polynomial.fit(nodes, total[nodes], 6).convert()
    return tuple(float(c) for c in polynomial.coef)


def _continuous() -> tuple[float, ...]:
    """Return the coefficients of B(n) in the limit of infinitely many steps."""
    return 0.0, FIRST_BETA, 0.5 * (LAST_BETA - FIRST_BETA) / NUM_BETAS


def _native_endpoints(coefficients: tuple[float, ...]) -> tuple[float, float]:
    """Return gamma at DDPM's first and last step, in float64."""
    depth = np.polynomial.Polynomial(coefficients)
    first, last = (float(np.log(np.expm1(depth(n)))) for n in (1.0, float(NUM_BETAS)))
    return first, last


def ddpm_beta_linear(
    endpoints: Endpoints, discrete: bool = True, own_endpoints: bool = False
) -> DdpmBetaLinear:
    """Return DDPM's schedule, which has no parameters.

    Args:
      endpoints: gamma(0) and gamma(1), used as constants.
      discrete: match DDPM's thousand steps; otherwise their continuous limit.
      own_endpoints: use gamma at DDPM's first and last step instead of `endpoints`.
    """
    coefficients = _discrete() if discrete else _continuous()
    first, last = (
        _native_endpoints(coefficients) if own_endpoints else (endpoints.gamma_0, endpoints.gamma_1)
    )
    ends = dataclasses.replace(endpoints, gamma_0=first, gamma_1=last, learned=False)
    return DdpmBetaLinear(ends, coefficients)
