"""The bound along paths of gamma that differ between dimensions, against closed forms and densities."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.correlated_gaussian import (
    COVARIANCE,
    PATHS,
    SHAPE,
    backward,
    guess_of,
    make_batch,
    make_exact,
    path_gammas,
    path_params,
    scales,
)
from vdm.distributions import codes
from vdm.evaluation.bounds import make_bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.models.vdm.elbo import denoising_matching, noise_levels
from vdm.models.vdm.elbo import elbo_terms as uncompiled
from vdm.models.vdm.noise import training_noise
from vdm.runtime.devices import make_mesh
from vdm.schedules import Endpoints, make_schedule
from vdm.types import TERM_NAMES, Known

elbo_terms = jax.jit(uncompiled, static_argnums=(0, 4))
ENDS = (-8.0, 5.0)
EXACT = 0.5 * np.log(
    np.linalg.det(np.eye(3) + COVARIANCE * np.exp(-ENDS[0]))
    / np.linalg.det(np.eye(3) + COVARIANCE * np.exp(-ENDS[1]))
)
"""I(x; z_0) - I(x; z_1), nats."""


@functools.partial(jax.jit, static_argnums=(0, 3))
def expected_at(model, params, times, num_timesteps):
    """The term at each of `times` [N], nats, in exact expectation over x and eps."""
    root = jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32)
    levels = noise_levels(model, params, times, num_timesteps)

    def at(node):
        wide = lambda v: jnp.broadcast_to(v.reshape(1, 1, 3, 1), (times.size, 1, 3, 1))  # noqa: E731
        x, eps = wide(jnp.sum(root * node[None, :3], axis=1)), wide(node[3:])
        return denoising_matching(model, params, x, Known(jnp.zeros(times.size)), eps, levels)

    return jnp.mean(jax.vmap(at)(jnp.sqrt(6.0) * jnp.eye(6)), axis=0)


def continuous(model, params):
    points, weights = np.polynomial.legendre.leggauss(200)
    values = expected_at(model, params, jnp.asarray((points + 1) / 2, jnp.float32), 0)
    return float(np.sum(weights / 2 * np.float64(values)))


def discrete(model, params, num_timesteps):
    times = jnp.asarray((np.arange(num_timesteps) + 0.5) / num_timesteps, jnp.float32)
    return float(np.float64(expected_at(model, params, times, num_timesteps)).mean())


@pytest.mark.parametrize("path", PATHS)
def test_an_exact_denoiser_gives_the_closed_form_on_every_path(path):
    params = path_params(path)
    assert continuous(make_exact(ENDS, 256), params) == pytest.approx(EXACT, rel=2e-5)
    excess = [discrete(make_exact(ENDS, 256), params, steps) - EXACT for steps in (1000, 10_000)]
    assert 0 < excess[1] < 0.02 and excess[0] / excess[1] == pytest.approx(10, rel=0.05)


def test_a_denoiser_told_the_mean_gives_another_bound_on_every_path():
    """On the straight path, where the mean is all there is to know, it is still exact."""
    found = {path: continuous(make_exact(ENDS, 256, False), path_params(path)) for path in PATHS}
    assert found["straight"] == pytest.approx(EXACT, rel=2e-5)
    others = [value for path, value in found.items() if path != "straight"]
    assert min(others) > EXACT + 0.1 and np.ptp(others) > 1.0


@pytest.mark.slow
def test_the_shape_takes_the_gradient_of_the_bound_itself():
    """It vanishes for the exact denoiser, and agrees with differences for the one told the mean."""
    points, weights = np.polynomial.legendre.leggauss(200)
    times, weights = (
        jnp.asarray((points + 1) / 2, jnp.float32),
        jnp.asarray(weights / 2, jnp.float32),
    )
    slopes = []
    for model in (make_exact(ENDS, 256), make_exact(ENDS, 256, False)):
        value = lambda p, m=model: jnp.sum(weights * expected_at(m, p, times, 0))  # noqa: E731
        grads = jax.grad(value)(path_params("random"))["schedule"]["shape"]["weights"]
        slopes.append(grads)
    assert float(jnp.abs(slopes[0]).max()) < 1e-3
    size, step = float(jnp.linalg.norm(slopes[1])), 0.02
    ends = []
    for sign in (1, -1):
        params = path_params("random")
        move = sign * step / size * slopes[1]
        params = jax.tree.map(lambda v, m=move: v + m, params)
        ends.append(continuous(make_exact(ENDS, 256, False), params))
    assert size > 1.0 and size == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.02)


def test_equal_gammas_are_those_of_the_line():
    """Terms beside another form, with a denoiser that is smooth in gamma."""
    model = make_exact(ENDS, 256)
    line = dataclasses.replace(model, schedule=make_schedule("linear", Endpoints(*ENDS)))
    params = path_params("straight")
    batch = make_batch(64, 256)
    noise = training_noise(jax.random.key(7), 64, SHAPE)
    for num_timesteps in (0, 10):
        found = [
            elbo_terms(m, p, batch, noise, num_timesteps)
            for m, p in ((model, params), (line, {"schedule": {}, "denoiser": {}}))
        ]
        for name in TERM_NAMES:
            ours, theirs = (float(jnp.sum(getattr(terms, name))) for terms in found)
            assert ours == pytest.approx(theirs, rel=1e-6)


def matching(path, x):
    """sum_i E KL(q(z_s|z_t,x) || p(z_s|z_t)) of every x [N,3], nats; both have variance V."""
    total = np.zeros(len(x))
    for gamma_s, gamma_t in itertools.pairwise(path):
        _, from_x, variance = backward(gamma_s, gamma_t)
        alpha, sigma = scales(gamma_t)
        guess = guess_of(alpha, sigma)
        of_x = from_x @ (np.eye(3) - guess @ alpha)  # of the difference of means, B (x - G z_t)
        of_eps = from_x @ guess @ sigma
        inverse = np.linalg.inv(variance)
        total += 0.5 * np.einsum("ni,ij,nj->n", x @ of_x.T, inverse, x @ of_x.T)
        total += 0.5 * np.trace(inverse @ of_eps @ of_eps.T)
    return total


def prior(gamma_1, x):
    """KL(q(z_1|x) || N(0, I)) [N]."""
    alpha, sigma = scales(gamma_1)
    return 0.5 * np.sum(
        (x @ alpha) ** 2 + np.diag(sigma**2) - 1 - 2 * np.log(np.diag(sigma)), axis=1
    )


@pytest.mark.slow
def test_both_forms_of_the_bound_have_the_mean_that_densities_give():
    """T = 4, where a mean of gammas or another path is far off."""
    name = "back and forth"
    ends, num_steps, batch = (-4.0, 3.0), 4, make_batch(2048)
    x = np.float64(codes.bin_centres(batch.images, 16)).reshape(-1, 3)
    path = path_gammas(name, ends, num_steps)
    expected = prior(path[-1], x) + matching(path, x)
    found = {}
    for form in ("dense", "consistency"):
        bound = make_bound(f"{form}@{num_steps}")
        terms = evaluate_bound(
            bound, make_exact(ends), path_params(name), [batch], make_mesh(1), 4
        ).terms
        found[form] = terms
        excess = terms["prior_matching"] + terms["denoising_matching"] - expected
        error = excess.std(ddof=1) / np.sqrt(excess.size)
        assert error < 0.01 * expected.mean() and abs(excess.mean()) < 4 * error, form
    prior_found = found["dense"]["prior_matching"]
    np.testing.assert_allclose(
        prior_found, np.broadcast_to(prior(path[-1], x), (4, 2048)), rtol=1e-5
    )
    ends_equal = (term["reconstruction"] for term in found.values())
    np.testing.assert_array_equal(*ends_equal)
    straight = path_gammas("straight", ends, num_steps)
    assert abs(matching(straight, x).mean() - matching(path, x).mean()) > 0.1 * expected.mean()
