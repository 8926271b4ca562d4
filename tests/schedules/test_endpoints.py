"""End points: refused outside float32's range or out of order, and kept valid while learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.schedules import Endpoints
from vdm.schedules.base import alpha_sigma, alpha_squared, sigma_squared, signal_to_noise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma_0": -24.5}, r"schedule\.gamma_0=-24\.5: .*within \[-24\.0, 24\.0\]"),
        ({"gamma_1": 25.0}, r"schedule\.gamma_1=25\.0: .*within"),
        ({"gamma_0": float("-inf")}, r"schedule\.gamma_0=-inf: .*within"),
        ({"gamma_0": float("nan")}, r"schedule\.gamma_0=nan: .*within"),
        ({"gamma_1": float("nan")}, r"schedule\.gamma_1=nan: .*within"),
        ({"gamma_1": -13.3}, r"gamma_1=-13\.3: must lie at least 0\.1 above.*gamma_0=-13\.3"),
        ({"gamma_1": -20.0}, r"gamma_1=-20\.0: must lie at least"),
        ({"gamma_0": 4.95}, r"gamma_1=5\.0: must lie at least 0\.1 above schedule\.gamma_0=4\.95"),
        ({"max_gamma_0": -13.86}, r"gamma_0=-13\.3: .*choose at most -13\.86"),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_bad_end_points_are_named(arguments, message, learned):
    with pytest.raises(ConfigError, match=message):
        Endpoints(**{"gamma_0": -13.3, "gamma_1": 5.0, "learned": learned, **arguments})


def test_the_limits_themselves_are_allowed():
    ends = Endpoints(-24.0, 24.0)
    assert [float(value) for value in ends.values({})] == [-24.0, 24.0]
    assert Endpoints(-13.86, 5.0, max_gamma_0=-13.86).gamma_0 == -13.86


def project(ends: Endpoints, gamma_0: float, gamma_1: float) -> list[float]:
    params = {"endpoints": {"gamma_0": jnp.float32(gamma_0), "gamma_1": jnp.float32(gamma_1)}}
    projected = ends.project({**params, "shape": 1})
    assert projected["shape"] == 1
    return [float(projected["endpoints"][name]) for name in ("gamma_0", "gamma_1")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((-13.0, 5.0), (-13.0, 5.0)),
        ((-100.0, 100.0), (-24.0, 24.0)),
        ((5.0, -13.0), (5.0, 5.1)),
        ((2.0, 2.0), (2.0, 2.1)),
        ((40.0, 50.0), (23.9, 24.0)),
        ((-50.0, -40.0), (-24.0, -23.9)),
    ],
)
def test_learned_end_points_return_to_the_nearest_valid_ones(before, after):
    ends = Endpoints(-13.3, 5.0, learned=True)
    np.testing.assert_allclose(project(ends, *before), after, rtol=1e-6)


def test_a_learned_gamma_0_stays_below_the_decoders_limit():
    ends = Endpoints(-20.0, 5.0, learned=True, max_gamma_0=-13.86)
    np.testing.assert_allclose(project(ends, -10.0, 3.0), (-13.86, 3.0), rtol=1e-6)
    unlimited = Endpoints(-13.3, 5.0, learned=True, max_gamma_0=float("inf"))
    np.testing.assert_allclose(project(unlimited, -10.0, 3.0), (-10.0, 3.0), rtol=1e-6)


def test_fixed_end_points_have_nothing_to_project():
    ends = Endpoints(-13.3, 5.0)
    assert ends.init() == {}
    assert ends.project({}) == {}
    assert ends.values({}) == (np.float32(-13.3), np.float32(5.0))


def test_learned_end_points_start_where_they_were_set():
    ends = Endpoints(-13.3, 5.0, learned=True)
    assert ends.values(ends.init()) == (np.float32(-13.3), np.float32(5.0))


GAMMAS = jnp.linspace(-24.0, 24.0, 193)[:, None, None, None]


def test_variance_is_preserved():
    alpha, sigma = alpha_sigma(GAMMAS)
    total = np.square(np.asarray(alpha, np.float64)) + np.square(np.asarray(sigma, np.float64))
    np.testing.assert_allclose(total, 1.0, rtol=3e-7)


def test_variances_and_their_ratio_keep_their_relative_precision_in_both_tails():
    gamma = np.asarray(GAMMAS, np.float64)
    np.testing.assert_allclose(alpha_squared(GAMMAS), 1 / (1 + np.exp(gamma)), rtol=5e-7)
    np.testing.assert_allclose(sigma_squared(GAMMAS), 1 / (1 + np.exp(-gamma)), rtol=5e-7)
    np.testing.assert_allclose(signal_to_noise(GAMMAS), np.exp(-gamma), rtol=5e-7)


def test_gradients_of_both_scales_are_right_in_both_tails():
    """d alpha/d gamma = -alpha sigma^2/2 and d sigma/d gamma = sigma alpha^2/2."""
    gamma = np.asarray(GAMMAS, np.float64)
    alpha, sigma = np.sqrt(1 / (1 + np.exp(gamma))), np.sqrt(1 / (1 + np.exp(-gamma)))
    _, (d_alpha, d_sigma) = jax.jvp(alpha_sigma, (GAMMAS,), (jnp.ones_like(GAMMAS),))
    # 1 - sigmoid is exact to 6e-8 only, which is nothing against the other scale's gradient.
    np.testing.assert_allclose(d_alpha, -alpha * sigma**2 / 2, rtol=2e-6, atol=6e-8)
    np.testing.assert_allclose(d_sigma, sigma * alpha**2 / 2, rtol=2e-6, atol=6e-8)
