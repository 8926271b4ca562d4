"""Contexts: their price, their draws, and the bound beside an exact likelihood.

The toy has one pixel of two levels, T = 2 steps and a context of four values, so that p(x) is a sum
over contexts of integrals over z_0, z_1/2 and z_1, taken on a grid.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.distributions import CONTEXTS, Draw, codes, make_context
from vdm.errors import ConfigError
from vdm.evaluation.bounds import make_bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.models.vdm.elbo import noise_levels, terms_at
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import Noise, evaluation_noise, training_noise
from vdm.networks.encoder import make_encoder
from vdm.networks.layers import known_features
from vdm.runtime.devices import make_mesh
from vdm.samplers import make_sampler
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import alpha_sigma
from vdm.types import Batch, Known

OPTIONS = {
    "gaussian": {"num_features": 4},
    "categorical": {"num_variables": 3, "num_classes": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTEXTS)
def test_price_is_the_mean_log_ratio_of_a_million_draws(name):
    model = make_context(name, OPTIONS[name])
    statistics = 0.7 * jax.random.normal(jax.random.key(0), (3, model.num_statistics))

    @jax.jit
    def ratios(key):
        noise = jax.vmap(model.draw_noise)(jax.random.split(key, 3))
        found = model.posterior(statistics, noise, relaxed=False)
        return found.log_ratio, found.kl

    draws, kl = jax.lax.map(ratios, jax.random.split(jax.random.key(1), 1_000_000), batch_size=1000)
    draws = np.float64(draws)
    error = draws.std(axis=0, ddof=1) / 1e3
    assert (np.float64(kl[0]) > 0.1).all() and (error < 0.01 * np.float64(kl[0])).all()
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - np.float64(kl[0])), 4 * error)


@pytest.mark.parametrize("name", CONTEXTS)
def test_price_is_zero_where_the_image_tells_nothing(name):
    model = make_context(name, OPTIONS[name])
    noise = jax.vmap(model.draw_noise)(jax.random.split(jax.random.key(0), 2))
    found = model.posterior(jnp.zeros((2, model.num_statistics)), noise, relaxed=False)
    assert (found.kl == 0).all() and (found.log_ratio == 0).all()
    np.testing.assert_array_equal(found.value, model.prior(noise))


def test_categorical_draws_follow_their_probabilities_and_relax_towards_them():
    model = make_context("categorical", {"num_variables": 1, "num_classes": 3, "temperature": 0.1})
    logits = jnp.array([[0.0, 1.0, -0.5]])
    keys = jax.random.split(jax.random.key(0), 20_000)
    noise = jax.vmap(model.draw_noise)(keys)
    repeated = jnp.broadcast_to(logits, (20_000, 3))
    hard = np.asarray(model.posterior(repeated, noise, relaxed=False).value)
    soft = np.asarray(model.posterior(repeated, noise, relaxed=True).value)
    assert set(np.unique(hard)) == {0.0, 1.0} and (hard.sum(axis=1) == 1).all()
    exact = np.asarray(jax.nn.softmax(logits[0]))
    np.testing.assert_allclose(hard.mean(axis=0), exact, atol=4 * 0.5 / np.sqrt(20_000))
    np.testing.assert_array_equal(soft.argmax(axis=1), hard.argmax(axis=1))
    assert 0.01 < np.abs(soft - hard).mean() < 0.1
    most = np.log(3)
    dear = model.posterior(jnp.array([[50.0, 0.0, 0.0]]), noise[:1], relaxed=False)
    assert float(dear.kl[0]) == pytest.approx(most, rel=1e-6)


def test_noise_of_contexts_has_a_stream_of_its_own():
    """Times and noise are what they are without; a context's own depends on the image alone."""
    draw, shape = make_context("gaussian", OPTIONS["gaussian"]).draw_noise, (2, 2, 1)
    plain, told = (training_noise(jax.random.key(3), 6, shape, d) for d in (None, draw))
    index = jnp.arange(6)
    evaluations = [evaluation_noise(1, 2, 3, index, shape, d) for d in (None, draw)]
    for one, other in ((plain, told), evaluations):
        assert one.context is None and other.context.shape == (6, 4)
        for field in ("times", "eps", "eps_0"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert len(np.unique(other.context)) == 24
    some = evaluation_noise(1, 2, 3, index[jnp.array([4, 1])], shape, draw)
    np.testing.assert_array_equal(some.context, evaluations[1].context[jnp.array([4, 1])])
    for changed in ((2, 2, 3), (1, 0, 3), (1, 2, 4)):
        other = evaluation_noise(*changed, index, shape, draw)
        assert not np.any(other.context == evaluations[1].context)


ENDS = (-1.5, 2.0)
STEPS = 2


class Toy(nn.Module):
    """A guess of the image, between its two values, that listens to time and context."""

    @nn.compact
    def __call__(self, z, time, known, train):
        a, b = (self.param(name, nn.initializers.normal(1.0), ()) for name in "ab")
        weights = self.param("w", nn.initializers.normal(1.5), (5,))
        told = (known_features(known) @ weights)[:, None, None, None]
        return 0.5 * jnp.tanh(a * z + b * time + told)


class Logits(nn.Module):
    """A table: the statistics of either code."""

    @nn.compact
    def __call__(self, x):
        table = self.param("table", nn.initializers.normal(1.5), (2, 4))
        return table[(x[:, 0, 0, 0] > 0).astype(jnp.int32)]


@functools.cache
def toy() -> VDM:
    context = make_context("categorical", {"num_variables": 2, "num_classes": 2})
    facts = {"shape": (1, 1, 1), "context_size": 4}
    options = {"num_hidden": 4, "learned_endpoints": False}
    schedule = make_schedule("conditional_polynomial", Endpoints(*ENDS), options, facts)
    return VDM((1, 1, 1), 2, schedule, Toy(), "x", True, ENDS, context, Logits())


VALUES = np.array([[i == 0, i == 1, j == 0, j == 1] for i in (0, 1) for j in (0, 1)], np.float32)
"""The four contexts."""


def random_models(count: int):
    """Parameters of `count` toys, stacked; their schedules differ between contexts."""
    keys = jax.random.split(jax.random.key(5), count)

    def draw(key):
        params = toy().init(key)
        second = params["schedule"]["shape"]["conditioner"]["w2"]
        key = jax.random.fold_in(key, 1)
        params["schedule"]["shape"]["conditioner"]["w2"] = 0.3 * jax.random.normal(
            key, second.shape
        )
        return params

    return jax.jit(jax.vmap(draw))(keys)


def normal(x, mean, variance):
    return jnp.exp(-0.5 * jnp.square(x - mean) / variance) / jnp.sqrt(2 * jnp.pi * variance)


def likelihood(params) -> jax.Array:
    """p(x) of both codes, by the definition of the model on a grid."""
    model, grid = toy(), jnp.linspace(-9.0, 9.0, 241)
    space, z = grid[1] - grid[0], grid[:, None, None, None]

    def given(c):
        many = jnp.broadcast_to(c[None], (len(grid), 4))
        gammas = [
            model.schedule.gamma(params["schedule"], jnp.full(1, k / STEPS), c[None]).reshape(())
            for k in range(STEPS + 1)
        ]
        mass = normal(grid, 0.0, 1.0) * space
        for k in range(STEPS, 0, -1):
            gamma_t, gamma_s = gammas[k], gammas[k - 1]
            wide = jnp.broadcast_to(gamma_t, z.shape)
            known = Known(jnp.zeros(len(grid)), context=many)
            eps = model.predict_eps(params, z, wide, known).ravel()
            (a_t, s_t), (a_s, s_s) = alpha_sigma(gamma_t), alpha_sigma(gamma_s)
            x_hat = (grid - s_t * eps) / a_t
            # q(z_s|z_t, x) by Bayes' rule for Gaussians, not by the library's formula
            ratio = a_t / a_s
            step = s_t**2 - ratio**2 * s_s**2
            variance = s_s**2 * step / s_t**2
            mean = (ratio * s_s**2 * grid + a_s * step * x_hat) / s_t**2
            kernel = normal(grid[:, None], mean[None], jnp.broadcast_to(variance, (1, 1)))
            mass = space * kernel @ mass
        scaled = (grid / alpha_sigma(gammas[0])[0])[:, None]
        logits = -0.5 * jnp.exp(-gammas[0]) * jnp.square(scaled - jnp.array([[-0.5, 0.5]]))
        return jax.nn.softmax(logits).T @ mass

    return jnp.mean(jax.vmap(given)(jnp.asarray(VALUES)), axis=0)


def bound(params):
    """(terms but the last, the last) of both codes [2], in expectation over contexts and noise."""
    model = toy()
    nodes, weights = (jnp.asarray(v, jnp.float32) for v in np.polynomial.hermite_e.hermegauss(24))
    weights = weights / weights.sum()
    totals, prices = [], []
    for code in (0, 1):
        statistics = model.encoder.apply(
            {"params": params["encoder"]}, code - jnp.full((1, 1, 1, 1), 0.5)
        )
        log_q = jax.nn.log_softmax(statistics.reshape(2, 2))
        size, parts = len(nodes), []
        batch = Batch(
            jnp.full((size, 1, 1, 1), code), np.arange(size), np.ones(size), np.zeros(size)
        )
        for value in VALUES:
            c = Draw(
                jnp.broadcast_to(jnp.asarray(value)[None], (size, 4)),
                jnp.zeros(size),
                jnp.zeros(size),
            )
            steps = []
            for time in (0.25, 0.75):
                noise = Noise(
                    jnp.full(size, time), nodes[:, None, None, None], jnp.zeros((size, 1, 1, 1))
                )
                levels = noise_levels(model, params, noise.times, STEPS, c)
                steps.append(terms_at(model, params, batch, noise, levels).total)
            q = jnp.exp(jnp.sum(log_q.ravel() * value))
            parts.append(q * jnp.sum(weights * sum(steps) / STEPS))
        noise = jnp.zeros((1, 2, 2))
        prices.append(model.context.posterior(statistics, noise, relaxed=False).kl[0])
        totals.append(sum(parts))
    return jnp.stack(totals), jnp.stack(prices)


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_bound_with_its_price_is_one_in_every_random_model(count):
    params = random_models(count)
    values = jax.jit(lambda p: jax.lax.map(likelihood, p, batch_size=50))(params)
    probability = np.float64(values)
    exact = -np.log(probability)
    rest, price = (np.float64(part) for part in jax.jit(jax.vmap(bound))(params))
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-4)  # the grid is fine enough
    gap = rest + price - exact
    assert gap.min() > -5e-5 and np.median(gap) < 1.5
    assert price.max() > 0.8 and price.max() <= 2 * np.log(2)
    # Where the context is free, a tenth of them lie below: the test can tell.
    assert (rest < exact - 1e-3).sum() > 0.03 * count


def one_model():
    stacked = random_models(8)
    return jax.tree.map(lambda leaf: leaf[3], stacked)


@pytest.mark.slow
def test_importance_weights_hold_the_context():
    """With 1024 weights IWAE is within its error of the exact likelihood; dense and K = 1 agree."""
    params = one_model()
    exact = -np.log(np.float64(jax.jit(likelihood)(params)))
    images = np.array([0, 1]).reshape(2, 1, 1, 1)
    batch = Batch(images, np.arange(2, dtype=np.int32), np.ones(2, bool), np.zeros(2, np.float32))

    def evaluate(name, count, **options):
        found = make_bound(f"{name}@{STEPS}", {name: options})
        return evaluate_bound(found, toy(), params, [batch], make_mesh(1), count)

    rows = evaluate("iwae", 1, num_weights=1024).rows
    many, single = rows[f"T = {STEPS}, K = 1024"], rows[f"T = {STEPS}, K = 1"]
    error = np.exp(exact) * np.exp(-single).std(axis=0, ddof=1) / 32
    assert (error < 0.1).all()
    np.testing.assert_array_less(np.abs(many[0] - exact), 4 * error + error**2)
    elbo, price = jax.jit(bound)(params)
    means, spread = single.mean(axis=0), single.std(axis=0, ddof=1) / 32
    np.testing.assert_array_less(np.abs(means - np.float64(elbo + price)), 4 * spread)
    assert (exact < means).all()
    dense = evaluate("dense", 16)
    prices = np.broadcast_to(np.float64(price), (16, 2))
    np.testing.assert_allclose(dense.terms["auxiliary"], prices, rtol=1e-5)
    total = next(iter(dense.rows.values()))
    np.testing.assert_array_less(
        np.abs(total.mean(axis=0) - np.float64(elbo + price)), 4 * total.std(axis=0, ddof=1) / 4
    )


def test_samples_follow_the_likelihood_with_contexts_from_the_prior():
    params = one_model()
    sample = jax.jit(lambda i: make_sampler("ancestral")(toy(), params, 0, i, STEPS).images)
    ones = float(np.mean(sample(jnp.arange(40_000))))
    assert ones == pytest.approx(float(jax.jit(likelihood)(params)[1]), abs=4 * 0.5 / 200)


def test_mistakes_name_what_is_missing():
    model, params = toy(), one_model()
    x = codes.bin_centres(jnp.zeros((2, 1, 1, 1), jnp.int32), 2)
    noise = jnp.zeros((2, 2, 2))
    without = {name: params[name] for name in ("schedule", "denoiser")}
    with pytest.raises(
        ConfigError, match=r"encoder's parameters are missing \(branches: denoiser, sch"
    ):
        model.encode(without, x, noise)
    with pytest.raises(ConfigError, match=r"noise\.context.*model\.draw_context"):
        model.encode(params, x, None)
    with pytest.raises(ConfigError, match=r"relaxed=True: a relaxed context is no draw from q"):
        model.encode(params, x, noise, relaxed=True)
    assert model.encode(params, x, noise, train=True).value.max() < 1  # relaxed there
    assert model.encode(params, x, noise).value.max() == 1
    with pytest.raises(ConfigError, match="takes 4 numbers per image and the context gives none"):
        dataclasses.replace(model, context=None, encoder=None)
    line = make_schedule("linear", Endpoints(*ENDS))
    with pytest.raises(
        ConfigError, match="Linear takes no numbers per image and the context gives 4"
    ):
        dataclasses.replace(model, schedule=line)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gausian", {}, r"context\.name='gausian'.*categorical, gaussian, none"),
        ("gaussian", {"size": 3}, r"context\.gaussian\.size=3: no such option.*num_features"),
        ("gaussian", {"num_features": 0}, r"num_features=0: must be at least 1"),
        ("categorical", {"num_classes": 1}, r"num_classes=1: must be at least 2"),
        ("categorical", {"temperature": 0.0}, r"temperature=0\.0: must be positive"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_context(name, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, r"context\.encoder\.width=3: no such option; choose from channels, num_hid"),
        ({"num_hidden": 0}, r"context\.encoder\.num_hidden=0: must be at least 1"),
    ],
)
def test_wrong_options_of_the_encoder(options, message):
    with pytest.raises(ConfigError, match=message):
        make_encoder(make_context("gaussian"), options)
