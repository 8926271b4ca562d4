"""The two linear schedules against their closed form and the official code's arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import gamma_and_derivative, step_times

ENDS = (-13.3, 5.0)
NAMES = ("linear", "learned_linear")


def make(name, ends=ENDS):
    schedule = make_schedule(name, Endpoints(*ends))
    return schedule, schedule.init(jax.random.key(0))


def test_only_the_learned_one_has_parameters():
    assert make("linear")[1] == {}
    params = make("learned_linear")[1]
    assert jax.tree.map(float, params) == {
        "endpoints": {"gamma_0": np.float32(-13.3), "gamma_1": 5.0}
    }
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", NAMES)
def test_gamma_is_the_line_between_the_end_points(name):
    schedule, params = make(name)
    t = np.linspace(0.0, 1.0, 97, dtype=np.float32)
    gamma, slope = gamma_and_derivative(schedule, params, jnp.asarray(t))
    assert gamma.shape == slope.shape == (97, 1, 1, 1)
    np.testing.assert_allclose(gamma[:, 0, 0, 0], -13.3 + 18.3 * t.astype(np.float64), atol=2e-6)
    np.testing.assert_allclose(slope, 18.3, rtol=2e-7)


@pytest.mark.parametrize("num_timesteps", [1, 10, 1000, 10_000, 100_000])
@pytest.mark.parametrize("name", NAMES)
def test_every_increment_is_the_exact_difference(name, num_timesteps):
    """The difference of two float32 gammas errs by 1e-2 at T = 10^5; the weight needs better."""
    schedule, params = make(name)
    steps = np.unique(np.linspace(1, num_timesteps, 50).astype(np.int32))
    increment = schedule.gamma_increment(params, jnp.asarray(steps), num_timesteps)
    ends = np.float64(np.float32(ENDS[0])), np.float64(np.float32(ENDS[1]))
    expected = np.full((len(steps), 1, 1, 1), (ends[1] - ends[0]) / num_timesteps)
    np.testing.assert_allclose(increment, expected, rtol=3e-7)


def test_gradients_are_one_minus_t_and_t():
    schedule, params = make("learned_linear")
    t = jnp.asarray([0.0, 0.25, 1.0])
    jacobian = jax.jacobian(lambda p: schedule.gamma(p, t)[:, 0, 0, 0])(params)["endpoints"]
    np.testing.assert_allclose(jacobian["gamma_0"], 1 - t, rtol=1e-6)
    np.testing.assert_allclose(jacobian["gamma_1"], t, rtol=1e-6)


def test_step_times_are_exact_at_both_ends():
    for num_timesteps in (1, 3, 10, 49, 1000, 100_000):
        steps = jnp.asarray([1, num_timesteps])
        t, s = step_times(steps, num_timesteps)
        assert s[0] == 0.0 and t[1] == 1.0
        np.testing.assert_allclose(np.asarray(t), np.asarray(steps) / num_timesteps, rtol=1e-7)


@pytest.fixture(scope="module")
def reference(shared_dir):
    return np.load(shared_dir / "reference" / "gamma.npz")


@pytest.mark.parametrize(
    ("name", "official"), [("linear", "fixed"), ("learned_linear", "learnable_scalar")]
)
def test_agrees_with_the_official_code(reference, name, official):
    """Its gamma is b + |w| t; compared with its float64 run, within the error of its float32 run."""
    ends = ENDS
    if official == "learnable_scalar":
        b, w = (reference[f"{official}/params/gamma/{p}"].item() for p in "bw")
        ends = (b, b + abs(w))
    schedule, params = make(name, ends)
    gamma, slope = gamma_and_derivative(schedule, params, jnp.asarray(reference["t"]))
    gamma, slope = gamma[:, 0, 0, 0], slope[:, 0, 0, 0]
    np.testing.assert_allclose(gamma, reference[f"{official}/f64/gamma"], atol=2e-6)
    np.testing.assert_allclose(slope, reference[f"{official}/f64/dgamma_dt"], rtol=3e-7)
