"""A variant of `Between` that defines its share of the way and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.schedules import Endpoints
from vdm.schedules.base import endpoints, gamma_and_derivative
from vdm.schedules.between import Between, rescaled


@dataclasses.dataclass(frozen=True)
class Power(Between):
    """r(t) = t^exponent, the exponent fixed or a parameter."""

    exponent: float = 3.0
    learned: bool = False

    def init_interior(self, key):
        return {"exponent": jnp.float32(self.exponent)} if self.learned else {}

    def share(self, interior, t, context=None):
        return t ** interior.get("exponent", self.exponent)


TIMES = np.linspace(0.0, 1.0, 11)


@pytest.mark.parametrize("learned_ends", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_all_follows_from_the_share(learned, learned_ends):
    schedule = Power(Endpoints(-7.0, 5.0, learned=learned_ends), learned=learned)
    params = schedule.init(jax.random.key(0))
    assert ("shape" in params, "endpoints" in params) == (learned, learned_ends)
    gamma, slope = gamma_and_derivative(schedule, params, jnp.asarray(TIMES, jnp.float32))
    np.testing.assert_allclose(gamma.ravel(), -7 + 12 * TIMES**3, atol=2e-6)
    np.testing.assert_allclose(slope.ravel(), 36 * TIMES**2, atol=1e-5)
    assert [end.item() for end in endpoints(schedule, params)] == [-7.0, 5.0]
    rise = schedule.gamma_increment(params, jnp.arange(1, 11), 10)
    np.testing.assert_allclose(rise.ravel(), 12 * np.diff(TIMES**3), atol=2e-6)


def test_end_points_are_the_parameters_themselves_whatever_the_shape():
    """So that the terms at the end points cannot move a shape, not even by rounding."""
    schedule = Power(Endpoints(-7.0, 5.0, learned=True), learned=True)
    params = schedule.init(jax.random.key(0))

    def loss(params):
        gamma_0, gamma_1 = endpoints(schedule, params)
        return 2.0 * jnp.sum(gamma_0) + 3.0 * jnp.sum(gamma_1)

    assert jax.tree.map(float, jax.grad(loss)(params)) == {
        "endpoints": {"gamma_0": 2.0, "gamma_1": 3.0},
        "shape": {"exponent": 0.0},
    }


def test_a_rescaled_function_meets_0_and_1_to_the_bit():
    t = jnp.asarray(TIMES, jnp.float32)[:, None, None, None]
    share = rescaled(lambda t: 0.1 + 0.7 * jnp.exp(t), t).ravel()
    np.testing.assert_allclose(share, np.expm1(TIMES) / np.expm1(1.0), atol=1e-6)
    assert share[0] == 0.0 and share[-1] == 1.0
