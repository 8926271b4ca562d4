"""Variance minimisation of the shape, against a second moment that is known in closed form.

The denoiser is told gamma alone and answers h(gamma), so that with one pixel

    L = 1/2 gamma'(t) (eps - h)^2,   E[L^2 | t] = 1/4 gamma'^2 (3 + 6 h^2 + h^4)
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.model import VDM, make_model
from vdm.noise import Noise, training_noise
from vdm.objective import gradient_of, make_elbo_loss, make_gradient
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import gamma_and_derivative
from vdm.types import Batch, DataSpec

ENDS = (-4.0, 3.0)


def answer(gamma):
    """h(gamma)."""
    return 1.5 * jnp.sin(0.7 * gamma) + 0.2 * gamma


class ToldGamma(nn.Module):
    """Predicts h(gamma), whatever z is."""

    def __call__(self, z, time, conditioning, train):
        return jnp.broadcast_to(answer(ENDS[0] + time * (ENDS[1] - ENDS[0])), z.shape)


@pytest.fixture(scope="module")
def toy():
    """(model, parameters away from the straight line)."""
    options = {"num_features": 4, "learned_endpoints": True}
    schedule = make_schedule("monotone_network", Endpoints(*ENDS), options)
    shape = {"w1": 0.5, "w2": [9.0, -6.0, 4.0, 12.0], "b2": [-7.0, -1.0, -2.0, -3.0]}
    shape = {n: jnp.asarray(v) for n, v in shape.items()}
    shape["w3"] = jnp.asarray([2.0, 1.0, -0.5, 0.8])
    params = {**schedule.init(jax.random.key(0)), "shape": shape}
    model = VDM((1, 1, 1), 256, schedule, ToldGamma(), "eps", True, ENDS)
    return model, {"schedule": params, "denoiser": {}}


def exact_gradient(model, params):
    """d/dshape of the variance in (bits/dim)^2, by quadrature over t."""
    points, weights = np.polynomial.legendre.leggauss(200)
    t = jnp.asarray((points + 1) / 2, jnp.float32)
    weights = jnp.asarray(weights / 2, jnp.float32)

    def second_moment(shape):
        schedule = {**params["schedule"], "shape": shape}
        gamma, slope = (v.ravel() for v in gamma_and_derivative(model.schedule, schedule, t))
        h = answer(gamma)
        return jnp.sum(weights * slope**2 * (3 + 6 * h**2 + h**4)) / 4 / math.log(2) ** 2

    return jax.grad(second_moment)(params["schedule"]["shape"])


def batch_of(size):
    ones = np.ones(size)
    images = np.full((size, 1, 1, 1), 100, np.uint8)
    return Batch(images, np.arange(size, dtype=np.int32), ones > 0, np.zeros(size, np.float32))


def test_the_shape_descends_along_the_variance(toy):
    """60 batches of 4,096 independent times: within 4 standard errors, which are small."""
    model, params = toy
    gradient, size = make_gradient(model, 0, "variance"), 4096

    @jax.jit
    def estimate(key):
        times, eps = jax.random.split(key)
        times = jax.random.uniform(times, (size,))
        noise = Noise(times, jax.random.normal(eps, (size, 1, 1, 1)), jnp.zeros((size, 1, 1, 1)))
        return gradient(params, batch_of(size), noise, None)[0]["schedule"]["shape"]

    found = [estimate(key) for key in jax.random.split(jax.random.key(1), 60)]
    exact = exact_gradient(model, params)
    flat = np.array([np.concatenate([np.ravel(v) for v in jax.tree.leaves(f)]) for f in found])
    target = np.concatenate([np.ravel(v) for v in jax.tree.leaves(exact)])
    error = flat.std(axis=0, ddof=1) / math.sqrt(len(flat))
    assert np.all(np.abs(flat.mean(axis=0) - target) < 4 * error + 1e-6)
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(target)


def test_descending_lowers_the_variance_and_leaves_the_bound(toy):
    model, params = toy
    points, weights = np.polynomial.legendre.leggauss(200)
    t = jnp.asarray((points + 1) / 2, jnp.float32)

    def moments(shape):
        schedule = {**params["schedule"], "shape": shape}
        gamma, slope = (np.ravel(v) for v in gamma_and_derivative(model.schedule, schedule, t))
        h = np.asarray(answer(gamma))
        first = np.sum(weights / 2 * slope * (1 + h**2)) / 2
        return first, np.sum(weights / 2 * slope**2 * (3 + 6 * h**2 + h**4)) / 4 - first**2

    before, step = params["schedule"]["shape"], exact_gradient(model, params)
    after = jax.tree.map(lambda p, g: p - 1e-3 * g, before, step)
    assert moments(after)[1] < moments(before)[1]
    assert moments(after)[0] == pytest.approx(moments(before)[0], rel=1e-5)


@pytest.fixture(scope="module")
def digits_model():
    model = make_model(
        DataSpec("small", (3, 3, 1), 17, {}, ""),
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "monotone_network", "gamma_0": None, "gamma_1": None},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1, "dropout": 0.1}},
    )
    return model, model.init(jax.random.key(0))


def both(model, params, num_timesteps=0):
    rng = np.random.default_rng(0)
    batch = batch_of(16).replace(images=rng.integers(0, 17, (16, *model.shape)))
    batch = batch.replace(mask=np.arange(16) < 13)
    noise = training_noise(jax.random.key(3), 16, model.shape)
    functions = (
        gradient_of(make_elbo_loss(model, num_timesteps)),
        make_gradient(model, num_timesteps),
    )
    return [jax.jit(f)(params, batch, noise, jax.random.key(4)) for f in functions]


def test_denoiser_and_end_points_keep_the_gradient_of_the_bound(digits_model):
    (plain, plain_metrics), (found, metrics) = both(*digits_model)
    jax.tree.map(np.testing.assert_array_equal, found["denoiser"], plain["denoiser"])
    for end, value in plain["schedule"]["endpoints"].items():
        np.testing.assert_allclose(found["schedule"]["endpoints"][end], value, rtol=1e-5)
    different = jax.tree.map(
        lambda a, b: np.any(np.asarray(a) != b),
        found["schedule"]["shape"],
        plain["schedule"]["shape"],
    )
    assert all(jax.tree.leaves(different))
    assert plain_metrics.keys() == metrics.keys()
    for name, value in plain_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)


def test_for_t_steps_the_shape_takes_the_bound_s_gradient(digits_model):
    (plain, _), (found, _) = both(*digits_model, num_timesteps=10)
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_unknown_objective(digits_model):
    with pytest.raises(ConfigError, match=r"objective.shape='var'.*elbo, variance"):
        make_gradient(digits_model[0], 0, "var")
