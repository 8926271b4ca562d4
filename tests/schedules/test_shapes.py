"""Learned and fixed shapes against other routes to them: SciPy, DDPM's own table, closed forms."""

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import PchipInterpolator

from tests import compiled
from vdm.errors import ConfigError
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.ddpm_beta_linear import step_gammas

ENDS = Endpoints(-13.3, 5.0)
TIMES = np.linspace(0.0, 1.0, 401)


def gammas(schedule, params, times=TIMES):
    return np.float64(compiled.gamma(schedule, params, np.float32(times))).ravel()


def bent(name, seed=0):
    """A learned schedule well away from the straight line."""
    schedule = make_schedule(name, ENDS)
    params = compiled.init(schedule)
    return schedule, {**params, "shape": compiled.shaken(params["shape"], 1.5, seed)}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ["piecewise_linear", "rational_spline"])
def test_a_bent_shape_keeps_the_contract(name, seed):
    schedule, params = bent(name, seed)
    found = gammas(schedule, params)
    assert (np.diff(found) > 0).all()
    assert found[0] == np.float32(-13.3) and found[-1] == np.float32(5.0)
    _, slope = compiled.gamma_and_derivative(schedule, params, np.float32(TIMES))
    slope = np.float64(slope).ravel()
    assert (slope > 0).all()
    # The derivative integrates to gamma: the same function, by another route.
    fine = np.linspace(0, 1, 200_001)
    _, dense = compiled.gamma_and_derivative(schedule, params, np.float32(fine))
    whole = np.trapezoid(np.float64(dense).ravel(), fine)
    assert whole == pytest.approx(found[-1] - found[0], rel=2e-4)


@pytest.mark.parametrize("num_timesteps", [7, 1000, 100_000])
@pytest.mark.parametrize("name", ["piecewise_linear", "rational_spline"])
def test_increments_of_a_bent_shape_add_up(name, num_timesteps):
    schedule, params = bent(name)
    steps = np.arange(1, num_timesteps + 1)
    rise = np.float64(compiled.gamma_increment(schedule, params, steps, num_timesteps)).ravel()
    assert (rise > 0).all()
    block = max(num_timesteps // 7, 1)
    ends = np.append(np.arange(0, num_timesteps, block), num_timesteps)
    sums = np.add.reduceat(rise, ends[:-1])
    expected = np.diff(gammas(schedule, params, ends / num_timesteps))
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-5)


def test_piecewise_linear_is_numpy_s_interpolation():
    times, shares = (0.1, 0.5, 0.8), (0.4, 0.45, 0.9)
    schedule = make_schedule(
        "piecewise_linear", ENDS, {"times": times, "shares": shares, "learned": False}
    )
    expected = np.interp(TIMES, [0, *times, 1], [0, *shares, 1]) * 18.3 - 13.3
    assert "shape" not in compiled.init(schedule)
    np.testing.assert_allclose(gammas(schedule, compiled.init(schedule)), expected, atol=5e-6)


def test_the_spline_passes_its_knots_and_its_slope_is_continuous():
    times, shares = (0.1, 0.5, 0.8), (0.4, 0.45, 0.9)
    schedule = make_schedule("rational_spline", ENDS, {"times": times, "shares": shares})
    params = compiled.init(schedule)
    found = (gammas(schedule, params, times) + 13.3) / 18.3
    np.testing.assert_allclose(
        found, shares, atol=2e-3
    )  # the smallest piece is kept above its minimum
    close = np.repeat(times, 2) + np.tile([-1e-5, 1e-5], 3)
    slope = compiled.gamma_and_derivative(schedule, params, np.float32(close))[1]
    sides = np.asarray(slope).reshape(3, 2)
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=2e-2)
    # SciPy's monotone cubic through the same knots takes the same harmonic mean slopes inside.
    cubic = PchipInterpolator([0, *times, 1], [0, *shares, 1]).derivative()(np.array(times))
    np.testing.assert_allclose(sides.mean(axis=1) / 18.3, cubic, rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_knots": 0}, r"num_knots=0: .*at least 1"),
        ({"times": (0.5, 0.4)}, r"times=\(0.5, 0.4\): must increase strictly"),
        ({"times": (0.5, 0.5)}, "must increase strictly"),
        ({"times": (0.0, 0.5)}, "must increase strictly"),
        ({"times": (0.5, 1.0)}, "must increase strictly"),
        ({"shares": (0.6, 0.5)}, r"shares=\(0.6, 0.5\): must increase strictly"),
        ({"shares": (0.5, float("nan"))}, "must increase strictly"),
        ({"times": (0.5,), "shares": (0.2, 0.5)}, "2 values for 1 knots"),
        ({"times": ()}, "at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["piecewise_linear", "rational_spline"])
def test_knots_out_of_order_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule(name, ENDS, options)


def test_ddpm_meets_its_own_table_at_every_step():
    """abar from the product of 1 - beta, in float64: what the published code computes."""
    schedule = make_schedule("ddpm_beta_linear", ENDS, {"own_endpoints": True})
    beta = np.linspace(1e-4, 0.02, 1000)
    abar = np.cumprod(1 - beta)
    expected = np.log((1 - abar) / abar)
    np.testing.assert_allclose(step_gammas(), expected, atol=1e-9)
    np.testing.assert_allclose(gammas(schedule, {}, np.arange(1000) / 999), expected, atol=2e-5)
    rise = compiled.gamma_increment(schedule, {}, np.arange(1, 1000), 999)
    np.testing.assert_allclose(np.ravel(rise), np.diff(expected), rtol=2e-5)


def test_ddpm_s_continuous_limit_is_the_integral_of_its_rate():
    schedule = make_schedule("ddpm_beta_linear", ENDS, {"own_endpoints": True, "discrete": False})
    u = (1 + 999 * TIMES) / 1000
    depth = 0.1 * u + 19.9 * u**2 / 2
    np.testing.assert_allclose(gammas(schedule, {}), np.log(np.expm1(depth)), atol=2e-5)


def test_sigmoid_is_the_published_formula_cut_to_the_end_points():
    schedule = make_schedule("sigmoid", ENDS)
    logistic = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    noise = lambda u: (logistic(-3 + 6 * u) - logistic(-3)) / (logistic(3) - logistic(-3))  # noqa: E731
    dense = np.linspace(0, 1, 2_000_001)[1:-1]
    native = np.log(noise(dense) / (1 - noise(dense)))
    first, last = np.interp([-13.3, 5.0], native, dense)
    expected = np.interp(first + (last - first) * TIMES, dense, native)
    np.testing.assert_allclose(gammas(schedule, {})[1:], expected[1:], atol=5e-3)


def test_edm_s_gamma_has_its_truncated_log_normal_as_distribution():
    schedule = make_schedule("edm", ENDS)
    low, high = ((end + 2.4) / 2.4 for end in (-13.3, 5.0))
    law = stats.truncnorm(low, high, loc=-2.4, scale=2.4)
    np.testing.assert_allclose(law.cdf(gammas(schedule, {})), TIMES, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", (-15.0, 15.0)),
        ("sigmoid", (-15.0, 15.0)),
        ("edm", (2 * np.log(0.002), 2 * np.log(80))),
        ("ddpm_beta_linear", (np.log(1e-4 / (1 - 1e-4)), 10.118)),
    ],
)
def test_its_own_end_points(name, expected):
    schedule = make_schedule(name, ENDS, {"own_endpoints": True})
    found = gammas(schedule, {})
    np.testing.assert_allclose(found[[0, -1]], expected, rtol=1e-3)
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sigmoid", {"start": 3.0, "end": -3.0}, "start < end"),
        ("edm", {"deviation": 0.0}, "must be positive"),
        ("edm", {"deviation": 0.1}, "float32 has no quantiles"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule(name, ENDS, options)
