"""The two end points of a schedule, gamma(0) and gamma(1): constants, or two parameters.

They are kept apart from the interior because they alone decide the continuous-time bound of a
scalar schedule (Kingma et al. 2021, arXiv:2107.00630, sec. 5.1).
"""

import dataclasses

import jax.numpy as jnp

from vdm.errors import ConfigError
from vdm.types import Params

GAMMA_LIMIT = 24.0
"""Largest |gamma|: beyond it float32 cannot recover the noise from z_t (rms error .0027)."""
MIN_WIDTH = 0.1
"""Least distance of learned end points, which keeps gamma strictly increasing."""


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """gamma(0) < gamma(1), both within +-GAMMA_LIMIT.

    Attributes:
      gamma_0: value, or initial value, at t = 0.
      gamma_1: value, or initial value, at t = 1.
      learned: whether both are parameters, {"gamma_0": [], "gamma_1": []}; otherwise there are
        none.
      max_gamma_0: upper limit of gamma_0, above which the table of the expected reconstruction
        is not exact (see `vdm.distributions.codes.max_gamma_0`).

    Raises:
      ConfigError: a value out of range, or end points in the wrong order or too close.
    """

    gamma_0: float
    gamma_1: float
    learned: bool = False
    max_gamma_0: float = GAMMA_LIMIT

    def __post_init__(self):
        for name in ("gamma_0", "gamma_1"):
            value = getattr(self, name)
            # Written this way round so that nan is refused too.
            if not abs(value) <= GAMMA_LIMIT:
                raise ConfigError(
                    f"schedule.{name}={value}: outside float32's useful range; "
                    f"choose a value within [-{GAMMA_LIMIT}, {GAMMA_LIMIT}]"
                )

        # Equal end points would make the schedule constant, and 1/(gamma_1 - gamma_0) infinite.
        if self.gamma_1 - self.gamma_0 < MIN_WIDTH:
            raise ConfigError(
                f"schedule.gamma_1={self.gamma_1}: must lie at least {MIN_WIDTH} above "
                f"schedule.gamma_0={self.gamma_0} (gamma = -log SNR increases with time)"
            )
        if self.gamma_0 > self.max_gamma_0:
            raise ConfigError(
                f"schedule.gamma_0={self.gamma_0}: too large for an exact reconstruction term; "
                f"choose at most {self.max_gamma_0:.2f}"
            )

    def init(self) -> Params:
        """Return the two parameters, float32 scalars; an empty dictionary when fixed."""
        if not self.learned:
            return {}
        return {
            "endpoints": {
                "gamma_0": jnp.asarray(self.gamma_0, jnp.float32),
                "gamma_1": jnp.asarray(self.gamma_1, jnp.float32),
            }
        }

    def values(self, params: Params):
        """Return (gamma(0), gamma(1)) as float32 scalars."""
        if not self.learned:
            return jnp.float32(self.gamma_0), jnp.float32(self.gamma_1)
        return params["endpoints"]["gamma_0"], params["endpoints"]["gamma_1"]

    def project(self, params: Params) -> Params:
        """Return parameters whose end points are in order and in range."""
        if not self.learned:
            return params
        gamma_0, gamma_1 = self.values(params)

        # gamma_0 is clipped first and leaves room for gamma_1, which then has a valid interval in
        # every case.
        highest = min(self.max_gamma_0, GAMMA_LIMIT - MIN_WIDTH)
        gamma_0 = jnp.clip(gamma_0, -GAMMA_LIMIT, highest)
        gamma_1 = jnp.clip(gamma_1, gamma_0 + MIN_WIDTH, GAMMA_LIMIT)
        return {**params, "endpoints": {"gamma_0": gamma_0, "gamma_1": gamma_1}}
