"""Gaussian data N(0, s^2) with the optimal denoiser, where the bound has a closed form.

    eps_hat = sigma z/(alpha^2 s^2 + sigma^2),   E|eps - eps_hat|^2 = s^2/(s^2 + exp(gamma))
    L_inf = 1/2 ln[(1 + s^2 exp(-gamma_0))/(1 + s^2 exp(-gamma_1))]   for every monotone schedule

The expectation over (x, eps) is exact: the error is linear in both, so that x = +-s, eps = +-1 give its
mean square. Over time it is a sum over all T steps, or Gauss-Legendre quadrature.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.distributions import Draw, make_context
from vdm.models.vdm.elbo import denoising_matching, noise_levels
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import training_noise
from vdm.schedules import SCHEDULES as REGISTERED
from vdm.schedules import Endpoints, Schedule, make_schedule
from vdm.schedules.base import alpha_sigma, endpoints, per_example
from vdm.types import Known, bits_per_dim

S_SQUARED = 0.25
ENDS = (-13.3, 5.0)
L_INF = 8.592713
"""bits/dim; facts, section 2, as are the following."""
L_T = {10: 22.690079, 100: 9.356873, 1000: 8.665168, 10_000: 8.599920}


class Optimal(nn.Module):
    """E[eps|z_t], from the time it is told under the constant map of ENDS."""

    @nn.compact
    def __call__(self, z, time, known, train):
        alpha, sigma = alpha_sigma(ENDS[0] + (ENDS[1] - ENDS[0]) * time)
        return sigma * z / (alpha**2 * S_SQUARED + sigma**2)


@dataclasses.dataclass(frozen=True)
class Curved(Schedule):
    """gamma falls and rises with a mixture of t and t^power, between fixed ends."""

    power: int

    def init(self, key):
        return {}

    def gamma(self, params, t, context=None):
        t = per_example(t)
        share = 0.4 * t + 0.6 * t**self.power
        return (1.0 - share) * ENDS[0] + share * ENDS[1]


SCHEDULES = {
    "linear": make_schedule("linear", Endpoints(*ENDS)),
    "learned_linear": make_schedule("learned_linear", Endpoints(*ENDS)),
    "curved2": Curved(2),
    "curved5": Curved(5),
}


def make(name: str):
    """(model, parameters)."""
    schedule = SCHEDULES[name]
    model = VDM((1, 1, 1), 256, schedule, Optimal(), "eps", True, ENDS)
    return model, {"schedule": schedule.init(jax.random.key(0)), "denoiser": {}}


@functools.partial(jax.jit, static_argnums=(0, 3))
def expected_at(model, params, times, num_timesteps):
    """The term at each of `times` [N], nats, in exact expectation over x and eps."""
    nodes = [(x, eps) for x in (-(S_SQUARED**0.5), S_SQUARED**0.5) for eps in (-1.0, 1.0)]
    shape = (times.size, 1, 1, 1)
    values = []
    for x, eps in nodes:
        context = None
        if model.context is not None:
            value = jnp.broadcast_to(jnp.array([[0.7, -1.0]]), (times.size, 2))
            context = Draw(value, jnp.zeros(times.size), jnp.zeros(times.size))
        levels = noise_levels(model, params, times, num_timesteps, context)
        x, eps, flags = jnp.full(shape, x), jnp.full(shape, eps), jnp.zeros(times.size)
        values.append(denoising_matching(model, params, x, Known(flags), eps, levels))
    return sum(values) / len(nodes)


def discrete(model, params, num_timesteps: int) -> float:
    """L_T in bits/dim, every step visited once."""
    times = jnp.asarray((np.arange(num_timesteps) + 0.5) / num_timesteps, jnp.float32)
    values = np.float64(expected_at(model, params, times, num_timesteps))
    return float(bits_per_dim(values.mean(), 1))


def quadrature(nodes=100):
    """Gauss-Legendre nodes and weights on [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return jnp.asarray((points + 1) / 2, jnp.float32), jnp.asarray(weights / 2, jnp.float32)


def continuous(model, params) -> jax.Array:
    """L_inf in nats, differentiable in the parameters."""
    times, weights = quadrature()
    return jnp.sum(weights * expected_at(model, params, times, 0))


def error(gamma):
    """E|eps - eps_hat|^2 in float64."""
    return S_SQUARED / (S_SQUARED + np.exp(gamma))


@pytest.mark.parametrize("name", SCHEDULES)
def test_continuous_bound_is_the_same_for_every_schedule(name):
    assert float(bits_per_dim(continuous(*make(name)), 1)) == pytest.approx(L_INF, abs=2e-5)


@pytest.mark.parametrize("name", REGISTERED)
def test_continuous_bound_is_the_same_for_every_registered_schedule(name):
    """Learned shapes bent at random; midpoints of v, t = sin^2(pi v/2), dense where gamma is steep."""
    small = {"monotone_network": {"num_features": 32}}
    facts = {"shape": (1, 1, 1), "context_size": 2}
    schedule = make_schedule(name, Endpoints(*ENDS), small.get(name), facts)
    context = make_context("gaussian", {"num_features": 2}) if schedule.context_size else None
    params = schedule.init(jax.random.key(0))
    if "shape" in params:
        leaves, structure = jax.tree.flatten(params["shape"])
        keys = jax.random.split(jax.random.key(1), len(leaves))
        bent = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        params = {**params, "shape": structure.unflatten(bent)}
    model = VDM((1, 1, 1), 256, schedule, Optimal(), "eps", True, ENDS, context)
    total, count = 0.0, 200_000
    for part in np.array_split((np.arange(count) + 0.5) / count, 20):  # to spare the memory
        times = jnp.asarray(np.sin(np.pi * part / 2) ** 2, jnp.float32)
        weights = np.pi / 2 * np.sin(np.pi * part) / count
        values = expected_at(model, {"schedule": params, "denoiser": {}}, times, 0)
        total += float(np.sum(weights * np.float64(values)))
    assert bits_per_dim(total, 1) == pytest.approx(L_INF, abs=1e-3)


@pytest.mark.parametrize("name", ["linear", "learned_linear"])
def test_discrete_bounds_and_their_fall_to_the_continuous_one(name):
    model, params = make(name)
    values = {steps: discrete(model, params, steps) for steps in L_T}
    for steps, anchor in L_T.items():
        assert values[steps] == pytest.approx(anchor, rel=2e-6)
    assert sorted(values.values(), reverse=True) == list(values.values())
    assert values[10_000] > L_INF
    # The excess halves with every doubling: first order in 1/T.
    assert (values[1000] - L_INF) / (values[10_000] - L_INF) == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize(("name", "power"), [("curved2", 2), ("curved5", 5)])
def test_discrete_bound_depends_on_the_schedule_s_shape(name, power):
    """Against the sum in float64; at T = 10 it is far from the straight line's."""
    t = np.arange(11) / 10
    share = 0.4 * t + 0.6 * t**power
    gamma = ENDS[0] + (ENDS[1] - ENDS[0]) * share
    exact = np.sum(0.5 * np.expm1(np.diff(gamma)) * error(gamma[1:])) / np.log(2)
    assert discrete(*make(name), 10) == pytest.approx(exact, rel=1e-5)
    assert abs(exact - L_T[10]) > 0.5


def test_gradient_for_the_end_points_in_continuous_time():
    """dL_inf/dgamma = +-1/2 E|eps - eps_hat|^2 at either end: the shape in between cancels."""
    model, params = make("learned_linear")
    grads = jax.grad(continuous, argnums=1)(model, params)["schedule"]["endpoints"]
    low, high = (float(e.squeeze()) for e in endpoints(model.schedule, params["schedule"]))
    assert float(grads["gamma_0"]) == pytest.approx(-0.5 * error(low), rel=1e-4)
    assert float(grads["gamma_1"]) == pytest.approx(0.5 * error(high), rel=2e-3)


def test_gradient_for_the_end_points_with_ten_steps():
    """Against differences of the sum in float64."""
    model, params = make("learned_linear")
    times = jnp.asarray((np.arange(10) + 0.5) / 10, jnp.float32)
    mean = lambda p: jnp.mean(expected_at(model, p, times, 10))  # noqa: E731
    grads = jax.grad(mean)(params)["schedule"]["endpoints"]

    def exact(low, high):
        gamma = low + (high - low) * np.arange(1, 11) / 10
        return np.sum(0.5 * np.expm1((high - low) / 10) * error(gamma))

    low, high = ENDS
    h = 1e-5
    slopes = {
        "gamma_0": (exact(low + h, high) - exact(low - h, high)) / (2 * h),
        "gamma_1": (exact(low, high + h) - exact(low, high - h)) / (2 * h),
    }
    for end, slope in slopes.items():
        assert float(grads[end]) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("num_timesteps", [0, 100])
def test_training_noise_gives_an_unbiased_estimate(num_timesteps):
    """20 independent batches of 2000 stratified times: within 4 standard errors of the anchor."""
    model, params = make("linear")

    @jax.jit
    def estimate(key):
        key_x, key_noise = jax.random.split(key)
        x = S_SQUARED**0.5 * jax.random.normal(key_x, (2000, 1, 1, 1))
        noise = training_noise(key_noise, 2000, (1, 1, 1))
        levels = noise_levels(model, params, noise.times, num_timesteps)
        terms = denoising_matching(model, params, x, Known(jnp.zeros(2000)), noise.eps, levels)
        return jnp.mean(terms)

    keys = jax.random.split(jax.random.key(5), 20)
    means = np.array([float(bits_per_dim(estimate(key), 1)) for key in keys])
    standard_error = means.std(ddof=1) / np.sqrt(len(means))
    anchor = L_T[100] if num_timesteps else L_INF
    assert standard_error < 0.02 * anchor
    assert abs(means.mean() - anchor) < 4 * standard_error


def test_a_worse_denoiser_pays_in_full():
    """eps_hat scaled by 1.1 adds .01 E|eps_hat|^2 = .01 (1 - error): the term is quadratic."""
    model, params = make("linear")
    worse = dataclasses.replace(model, denoiser=Scaled())
    times, weights = quadrature()
    extra = jnp.sum(
        weights * (expected_at(worse, params, times, 0) - expected_at(model, params, times, 0))
    )
    gamma = np.linspace(*ENDS, 20_001)
    share = 0.01 * (1.0 - error(gamma))
    exact = 0.5 * np.trapezoid(share, gamma)
    assert float(extra) == pytest.approx(exact, rel=1e-4)


class Scaled(Optimal):
    """The optimal prediction times 1.1."""

    @nn.compact
    def __call__(self, z, time, known, train):
        return 1.1 * super().__call__(z, time, known, train)
