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

from tests import per_pixel
from vdm.errors import ConfigError
from vdm.models.microbatches import gradient as gradient_of
from vdm.models.vdm import noise_level_gradient
from vdm.models.vdm.elbo import elbo_terms
from vdm.models.vdm.make import make_model
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import Noise, training_noise
from vdm.models.vdm.noise_level_gradient import PER_IMAGE
from vdm.models.vdm.objective import make_elbo_loss, make_gradient
from vdm.models.vdm.weights import make_weight
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import gamma_and_derivative
from vdm.types import Batch, DataSpec

ENDS = (-4.0, 3.0)


def answer(gamma):
    """h(gamma)."""
    return 1.5 * jnp.sin(0.7 * gamma) + 0.2 * gamma


class ToldGamma(nn.Module):
    """Predicts h(gamma), whatever z is."""

    def __call__(self, z, time, known, train):
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


def exact_mean(model, params):
    """d/dshape of the expected bound, in bits/dim, by quadrature over t: the plain gradient."""
    points, weights = np.polynomial.legendre.leggauss(200)
    t = jnp.asarray((points + 1) / 2, jnp.float32)
    weights = jnp.asarray(weights / 2, jnp.float32)

    def mean(shape):
        schedule = {**params["schedule"], "shape": shape}
        gamma, slope = (v.ravel() for v in gamma_and_derivative(model.schedule, schedule, t))
        return jnp.sum(weights * slope * (1 + answer(gamma) ** 2)) / 2 / math.log(2)

    return jax.grad(mean)(params["schedule"]["shape"])


def flatten(shape):
    return np.concatenate([np.ravel(v) for v in jax.tree.leaves(shape)])


def estimates(gradient, params, seed, num_batches=60, size=4096, density=None):
    """[batches, parameters of the shape] of `gradient` at independent times."""

    @jax.jit
    def estimate(key):
        times, eps = jax.random.split(key)
        uniform = jax.random.uniform(times, (size,))
        zeros = jnp.zeros((size, 1, 1, 1))
        noise = Noise(uniform, jax.random.normal(eps, (size, 1, 1, 1)), zeros)
        if density is not None:  # (t, 1/p(t)) from a uniform number
            noise = noise.replace(times=density[0](uniform), importance=density[1](uniform))
        return gradient(params, batch_of(size), noise, None)[0]["schedule"]["shape"]

    return np.array(
        [flatten(estimate(key)) for key in jax.random.split(jax.random.key(seed), num_batches)]
    )


def errors_of(found, target):
    """Distance from the target in standard errors, per parameter."""
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    return (found.mean(axis=0) - target) / (error + 1e-9)


def test_quadrature_agrees_with_finite_differences(toy):
    """The truth that the estimates are held to, by a second route, in float64."""
    model, params = toy
    points, weights = np.polynomial.legendre.leggauss(200)
    t, weights = (points + 1) / 2, weights / 2

    def second_moment(shape):
        w1, w2, b2, w3 = (np.float64(shape[n]) for n in ("w1", "w2", "b2", "w3"))
        sigmoid = lambda t: 1 / (1 + np.exp(-(np.abs(w2) * np.reshape(t, (-1, 1)) + b2)))  # noqa: E731
        f = lambda t: np.abs(w1) * t + np.mean(np.abs(w3) * sigmoid(t), axis=1)  # noqa: E731
        s = sigmoid(t)
        slope = np.abs(w1) + np.mean(np.abs(w3 * w2) * s * (1 - s), axis=1)
        whole = (f(np.ones(1)) - f(np.zeros(1)))[0]
        width = ENDS[1] - ENDS[0]
        gamma = ENDS[0] + width * (f(t) - f(np.zeros(1))) / whole
        slope = width * slope / whole
        h = 1.5 * np.sin(0.7 * gamma) + 0.2 * gamma
        return np.sum(weights * slope**2 * (3 + 6 * h**2 + h**4)) / 4 / math.log(2) ** 2

    exact = exact_gradient(model, params)
    shape = jax.tree.map(np.float64, params["schedule"]["shape"])
    for name, slopes in exact.items():
        for i in np.ndindex(np.shape(slopes)):
            moved = []
            for h in (1e-5, -1e-5):
                value = np.array(shape[name])
                value[i] += h
                moved.append(second_moment({**shape, name: value}))
            expected = (moved[0] - moved[1]) / 2e-5
            assert float(slopes[i]) == pytest.approx(expected, rel=2e-3, abs=2e-4), name


def test_the_expected_plain_gradient_of_the_shape_is_zero(toy):
    """The bound does not depend on the shape, so what descends along it only walks at random."""
    model, params = toy
    np.testing.assert_allclose(flatten(exact_mean(model, params)), 0.0, atol=2e-4)
    plain = estimates(make_gradient(model, 0, "elbo"), params, seed=2)
    assert np.all(np.abs(errors_of(plain, 0.0)) < 4.5)


def test_without_the_path_through_the_slope_the_gradient_is_wrong(toy, monkeypatch):
    """What the test above must catch: gamma' held constant."""
    model, params = toy
    levels = noise_level_gradient.noise_levels

    def cut(*arguments):
        found = levels(*arguments)
        return found._replace(weight=jax.lax.stop_gradient(found.weight))

    monkeypatch.setattr(noise_level_gradient, "noise_levels", cut)
    found = estimates(make_gradient(model, 0, "variance"), params, seed=1)
    exact = flatten(exact_gradient(model, params))
    assert np.max(np.abs(errors_of(found, exact))) > 20
    assert found.mean(axis=0) @ exact < 0  # it points the other way


@pytest.mark.slow
def test_multiplying_parameter_gradients_elementwise_is_wrong(toy):
    """2 (mean L - b) times the mean of dL is not the mean of 2 (L - b) dL."""
    model, params = toy
    plain, loss = make_gradient(model, 0, "elbo"), make_elbo_loss(model, 0)

    def elementwise(params, batch, noise, key):
        grads, metrics = plain(params, batch, noise, key)
        return jax.tree.map(lambda g: 2.0 * loss(params, batch, noise, key)[0] * g, grads), metrics

    found = estimates(elementwise, params, seed=1, num_batches=20)
    assert np.max(np.abs(errors_of(found, flatten(exact_gradient(model, params))))) > 20


def test_the_shape_descends_along_the_same_variance_from_other_times(toy):
    """Times drawn from p(t) = (t + 1/2), with their weights: the same target."""
    model, params = toy
    density = (
        lambda u: 0.5 * (jnp.sqrt(1.0 + 8.0 * u) - 1.0),
        lambda u: 1.0 / (0.5 * jnp.sqrt(1.0 + 8.0 * u)),
    )
    found = estimates(make_gradient(model, 0, "variance"), params, seed=3, density=density)
    assert np.all(np.abs(errors_of(found, flatten(exact_gradient(model, params)))) < 4.5)


@pytest.mark.parametrize("weight", [None, lambda gamma: jnp.exp(-0.1 * gamma)])
def test_the_loss_of_every_image_is_that_of_its_time_whatever_drew_it(toy, weight):
    """1/2 gamma' (eps - h)^2, with the denoiser's weight and without 1/p; the bound has 1/p."""
    model, params = toy
    times, eps = jnp.linspace(0.05, 0.95, 7), jnp.linspace(-2.0, 2.5, 7)
    importance = jnp.linspace(0.3, 4.0, 7)
    noise = Noise(times, eps.reshape(7, 1, 1, 1), jnp.zeros((7, 1, 1, 1)), importance=importance)
    gradient = make_gradient(model, 0, "variance", weight, per_image=True)
    _, metrics = jax.jit(gradient)(params, batch_of(7), noise, None)
    values = gamma_and_derivative(model.schedule, params["schedule"], times)
    gamma, slope = (np.float64(value).ravel() for value in values)
    exact = 0.5 * slope * (np.float64(eps) - np.float64(answer(gamma))) ** 2
    factor = 1.0 if weight is None else np.float64(weight(gamma))
    np.testing.assert_allclose(metrics[PER_IMAGE], factor * exact, rtol=2e-5)
    reported = np.mean(np.float64(importance) * exact) / math.log(2)
    assert float(metrics["denoising_matching"]) == pytest.approx(reported, rel=2e-5)


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


@pytest.mark.slow
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


def test_a_variance_objective_for_t_steps_is_refused(digits_model):
    with pytest.raises(ConfigError, match=r"objective.interior_loss='variance': with T = 10 steps"):
        make_gradient(digits_model[0], 10, "variance")


@pytest.mark.slow
def test_a_weight_moves_the_denoiser_alone(digits_model):
    """Schedule as without it; the denoiser along the weighted loss, by a second route."""
    model, params = digits_model
    weight = lambda gamma: jnp.where(gamma > 0.0, jax.nn.sigmoid(gamma), 0.0)  # noqa: E731
    plain, weighted = (make_gradient(model, 0, None, w) for w in (None, weight))
    rng = np.random.default_rng(0)
    batch = batch_of(16).replace(images=rng.integers(0, 17, (16, *model.shape)))
    noise = training_noise(jax.random.key(3), 16, model.shape)
    key = jax.random.key(4)
    expected, before = jax.jit(plain)(params, batch, noise, key)
    found, metrics = jax.jit(weighted)(params, batch, noise, key)
    for a, b in zip(*(jax.tree.leaves(g["schedule"]) for g in (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    assert metrics["bits_per_dim"] == pytest.approx(float(before["bits_per_dim"]), rel=1e-6)

    def loss(denoiser):
        terms = elbo_terms(
            model, {**params, "denoiser": denoiser}, batch, noise, train=True, dropout_key=key
        )
        gamma = model.schedule.gamma(params["schedule"], noise.times).ravel()
        total = terms.total + (weight(gamma) - 1.0) * terms.denoising_matching
        return jnp.mean(total) / (math.prod(model.shape) * math.log(2))

    value, by_denoiser = jax.value_and_grad(loss)(params["denoiser"])
    assert metrics["weighted_loss"] == pytest.approx(float(value), rel=1e-5)
    assert abs(float(value) - float(metrics["bits_per_dim"])) > 0.1
    for a, b in zip(*map(jax.tree.leaves, (found["denoiser"], by_denoiser)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_variance_minimisation_adds_at_most_3_percent_of_flops():
    """XLA's count for one gradient of the digits' network, narrower."""
    model = make_model(
        DataSpec("digits", (8, 8, 1), 17, {}, ""),
        {"parameterisation": "eps", "reconstruction": "expected"},
        {"name": "monotone_network", "gamma_0": None, "gamma_1": None},
        {"name": "unet", "unet": {"channels": 32, "num_blocks": 1, "unroll": True}},
    )
    params = jax.eval_shape(model.init, jax.random.key(0))
    images = np.zeros((32, 8, 8, 1), np.uint8)
    batch = batch_of(32).replace(images=images)
    noise = training_noise(jax.random.key(0), 32, model.shape)
    flops = {}
    for shape in ("elbo", "variance"):
        lowered = jax.jit(make_gradient(model, 0, shape)).lower(
            params, batch, noise, jax.random.key(1)
        )
        flops[shape] = lowered.cost_analysis()["flops"]
    assert flops["elbo"] > 1e8
    assert flops["variance"] / flops["elbo"] < 1.03


def test_unknown_objective(digits_model):
    with pytest.raises(ConfigError, match=r"objective.interior_loss='var'.*elbo, variance"):
        make_gradient(digits_model[0], 0, "var")


def test_what_needs_one_gamma_per_image_is_refused():
    model = per_pixel.make_small()
    told = per_pixel.make_small("conditional_polynomial", per_pixel.GAUSSIAN)
    with pytest.raises(ConfigError, match="interior_loss='variance': with one gamma per"):
        make_gradient(model, 0, "variance")
    with pytest.raises(ConfigError, match=r"objective\.weight: with one gamma"):
        make_gradient(model, 0, weight=make_weight("sigmoid", {}, (-7.0, 5.0)))
    with pytest.raises(ConfigError, match="times='adaptive': with one gamma"):
        make_gradient(told, 0, per_image=True)
