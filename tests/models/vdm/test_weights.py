"""Weights against the formulas they are named for, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vdm.errors import ConfigError
from vdm.models.vdm import weights
from vdm.models.vdm.weights import WEIGHTS, make_weight
from vdm.schedules import Endpoints, make_schedule

RANGE = (-13.3, 5.0)
GAMMA = np.linspace(*RANGE, 101)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_weight_is_finite_and_not_negative_far_out(name):
    weight = make_weight(name, {}, (-24.0, 24.0))
    if weight is None:
        return
    values = np.asarray(weight(jnp.linspace(-24.0, 24.0, 97)))
    assert values.dtype == np.float32 and np.isfinite(values).all() and (values >= 0).all()


@pytest.mark.parametrize("name", WEIGHTS)
def test_its_docstring_says_whether_it_is_a_bound(name):
    assert "bound" in WEIGHTS[name].__doc__


def test_l_simple_weighs_every_one_of_ddpm_s_steps_the_same():
    """1/2 T expm1(gamma_t - gamma_s) w(gamma_t) = 1 at T = 999, from the schedule's own increments."""
    schedule = make_schedule("ddpm_beta_linear", Endpoints(*RANGE), {"own_endpoints": True})
    steps = jnp.arange(1, 1000)
    gamma = schedule.gamma({}, steps / 999)
    factor = 0.5 * 999 * jnp.expm1(schedule.gamma_increment({}, steps, 999))
    found = factor * make_weight("l_simple", {}, RANGE)(gamma)
    np.testing.assert_allclose(found, 1.0, rtol=2e-4)


def test_edm_is_its_published_loss():
    """lambda |x - x_hat|^2 at ln sigma ~ N(-1.2, 1.2^2); |x - x_hat| = sigma |eps - eps_hat|."""
    sigma = np.exp(GAMMA / 2)
    density = stats.norm(-1.2, 1.2).pdf(np.log(sigma)) / 2  # d ln sigma / d gamma
    published = density * (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2 * sigma**2
    found = np.asarray(make_weight("edm", {}, RANGE)(jnp.asarray(GAMMA)))
    np.testing.assert_allclose(found, published, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "grows"), [("sigmoid", True), ("truncated", True), ("edm", False), ("l_simple", False)]
)
def test_only_those_called_a_bound_never_decrease(name, grows):
    values = np.asarray(make_weight(name, {}, RANGE)(jnp.asarray(GAMMA)))
    assert bool((np.diff(values) >= 0).all()) == grows
    assert ("No bound" in WEIGHTS[name].__doc__) != grows


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (lambda gamma: gamma, r"w\(-13\.3\) = -13\.3; a weight must be finite and not negative"),
        (lambda gamma: 1.0 / (0.0 * gamma), "must be finite"),
        (jnp.zeros_like, "0 everywhere on gamma in"),
    ],
)
def test_what_is_no_weight_is_refused(weight, message, monkeypatch):
    monkeypatch.setitem(weights.WEIGHTS, "new", lambda: weight)
    with pytest.raises(ConfigError, match=message):
        make_weight("new", {}, RANGE)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("elbow", {}, "no such weight; choose one of edm, elbo, l_simple, sigmoid, truncated"),
        ("sigmoid", {"sharpness": 1.0}, "sharpness=1.0: no such option; choose from bias"),
        ("edm", {"sigma_data": 0.0}, "must be positive"),
        ("truncated", {"gamma_min": 30.0}, "beyond every schedule"),
        ("truncated", {"gamma_min": 9.0}, "0 everywhere"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_weight(name, options, RANGE)


def test_weights_are_traceable():
    for name in WEIGHTS:
        weight = make_weight(name, {}, RANGE)
        if weight is not None:
            np.testing.assert_allclose(jax.jit(weight)(jnp.zeros((2, 1, 1, 1))).shape, (2, 1, 1, 1))
