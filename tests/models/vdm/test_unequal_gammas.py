"""A path of its own for every dimension, against NumPy: bounds, samples, and the density of the ODE.

The data are N(0, C) in three dimensions and the denoiser is exact, so that every step is linear in z.
"""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from vdm.distributions import codes, make_context
from vdm.evaluation.bounds import make_bound
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.models.vdm.model import VDM
from vdm.models.vdm.noise import evaluation_contexts, evaluation_noise
from vdm.runtime.devices import make_mesh
from vdm.samplers.ancestral import ancestral
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import Schedule, alpha_sigma, per_example
from vdm.schedules.per_pixel.polynomial import FLOOR
from vdm.types import Batch

C = np.array([[0.25, 0.15, 0.0], [0.15, 1.0, -0.3], [0.0, -0.3, 2.0]])
SHAPE, LEVELS = (1, 3, 1), 16
WEIGHTS = np.array([[5.0, -5.0, 1.0], [-5.0, 5.0, -0.4], [0.3, 1.0, -0.6]])
"""(a, b, c) of each dimension's polynomial: far from each other."""


class Exact(nn.Module):
    """E[eps|z] of N(0, C) = sigma M^-1 z, M = alpha C alpha + sigma^2; `ends` undo the map of time."""

    ends: tuple[float, float]

    @nn.compact
    def __call__(self, z, time, known, train):
        gamma = self.ends[0] + (self.ends[1] - self.ends[0]) * time
        alpha, sigma = alpha_sigma(jnp.broadcast_to(gamma, z.shape).reshape(-1, 3))
        matrix = alpha[:, :, None] * jnp.asarray(C, jnp.float32)[None] * alpha[:, None, :]
        matrix = matrix + jnp.square(sigma)[:, :, None] * jnp.eye(3)[None]
        solved = jnp.linalg.solve(matrix, z.reshape(-1, 3, 1))[..., 0]
        return (sigma * solved).reshape(z.shape)


@functools.cache
def polynomial(ends):
    schedule = make_schedule(
        "pixel_polynomial", Endpoints(*ends), {"learned_endpoints": False}, {"shape": SHAPE}
    )
    return VDM(SHAPE, LEVELS, schedule, Exact(ends), "eps", True, ends)


def params_of(weights):
    shape = {"weights": jnp.asarray(weights, jnp.float32).reshape(*SHAPE, 3)}
    return {"schedule": {"shape": shape}, "denoiser": {}}


def gammas(weights, ends, num_steps):
    """gamma(i/T) in float64 [T+1,3], from the antiderivative of the squared quadratic."""

    def mass(a, b, c, t):
        square = np.polynomial.Polynomial([c, b, a]) ** 2
        whole = square.integ()
        return whole(t) + FLOOR * (1.0 + whole(1.0)) * t

    t = np.arange(num_steps + 1) / num_steps
    share = np.stack([mass(*row, t) / mass(*row, 1.0) for row in np.float64(weights)], axis=1)
    return ends[0] + (ends[1] - ends[0]) * share


def scales(gamma):
    """(alpha, sigma) in float64, as diagonal matrices."""
    return np.diag(1 / np.sqrt(1 + np.exp(gamma))), np.diag(1 / np.sqrt(1 + np.exp(-gamma)))


def guess_of(alpha, sigma):
    """E[x|z] = G z."""
    return C @ alpha @ np.linalg.inv(alpha @ C @ alpha + sigma @ sigma)


def backward(gamma_s, gamma_t):
    """q(z_s|z_t, x) = N(A z_t + B x, V), by Bayes' rule for Gaussians."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = scales(gamma_s), scales(gamma_t)
    ratio = alpha_t @ np.linalg.inv(alpha_s)
    noise = sigma_t @ sigma_t - ratio @ ratio @ sigma_s @ sigma_s
    variance = np.linalg.inv(
        np.linalg.inv(sigma_s @ sigma_s) + ratio @ ratio @ np.linalg.inv(noise)
    )
    from_x = variance @ np.linalg.inv(sigma_s @ sigma_s) @ alpha_s
    return variance @ ratio @ np.linalg.inv(noise), from_x, variance


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


def batch_of(size):
    images = np.random.default_rng(0).integers(0, LEVELS, (size, *SHAPE))
    index, flags = np.arange(size, dtype=np.int32), np.zeros(size, np.float32)
    return Batch(images, index, np.ones(size, bool), flags)


def test_both_forms_of_the_bound_have_the_mean_that_densities_give():
    """T = 4, where a mean of gammas or another path is far off."""
    ends, num_steps, batch = (-4.0, 3.0), 4, batch_of(2048)
    x = np.float64(codes.bin_centres(batch.images, LEVELS)).reshape(-1, 3)
    path = gammas(WEIGHTS, ends, num_steps)
    expected = prior(path[-1], x) + matching(path, x)
    found = {}
    for name in ("dense", "consistency"):
        bound = make_bound(f"{name}@{num_steps}")
        terms = evaluate_bound(
            bound, polynomial(ends), params_of(WEIGHTS), [batch], make_mesh(1), 4
        ).terms
        found[name] = terms
        excess = terms["prior_matching"] + terms["denoising_matching"] - expected
        error = excess.std(ddof=1) / np.sqrt(excess.size)
        assert error < 0.01 * expected.mean() and abs(excess.mean()) < 4 * error, name
    prior_found = found["dense"]["prior_matching"]
    np.testing.assert_allclose(
        prior_found, np.broadcast_to(prior(path[-1], x), (4, 2048)), rtol=1e-5
    )
    ends_equal = (term["reconstruction"] for term in found.values())
    np.testing.assert_array_equal(*ends_equal)
    straight = gammas(np.tile([0.0, 0.0, 1.0], (3, 1)), ends, num_steps)
    assert abs(matching(straight, x).mean() - matching(path, x).mean()) > 0.1 * expected.mean()


def recursion(path):
    """The covariance of z_0 after ancestral sampling along `path`."""
    covariance = np.eye(3)
    for gamma_t, gamma_s in itertools.pairwise(path[::-1]):
        from_z, from_x, variance = backward(gamma_s, gamma_t)
        matrix = from_z + from_x @ guess_of(*scales(gamma_t))
        covariance = matrix @ covariance @ matrix.T + variance
    return covariance


def test_samples_have_the_covariance_of_the_linear_recursion():
    """40,000 samples of 5 steps; an entry's error is sqrt((S_ii S_jj + S_ij^2)/N)."""
    ends, num_steps, num = (-4.0, 5.0), 5, 40_000
    draw = jax.jit(lambda i: ancestral(polynomial(ends), params_of(WEIGHTS), 0, i, num_steps).z[-1])
    z_0 = np.float64(draw(jnp.arange(num))).reshape(num, 3)
    expected = recursion(gammas(WEIGHTS, ends, num_steps))
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / num)
    np.testing.assert_array_less(np.abs(z_0.T @ z_0 / num - expected), 4 * error)
    np.testing.assert_array_less(np.abs(z_0.mean(axis=0)), 4 * np.sqrt(variances / num))
    straight = recursion(gammas(np.tile([0.0, 0.0, 1.0], (3, 1)), ends, num_steps))
    assert (np.abs(straight - expected) / error).max() > 20  # the path matters


@dataclasses.dataclass(frozen=True)
class OwnEnds(Schedule):
    """Curves between end points of each dimension's own."""

    low = np.array([-4.0, -1.0, 1.0])
    high = np.array([11.0, 12.5, 13.0])
    bend = np.array([0.0, 0.9, -0.9])

    def init(self, key):
        return {}

    def gamma(self, params, t, context=None):
        low, high, bend = (
            jnp.asarray(v, jnp.float32).reshape(1, *SHAPE) for v in (self.low, self.high, self.bend)
        )
        t = per_example(t)
        return low + (high - low) * (t + bend * t * (1.0 - t))


ODE = {"ode": {"tolerance": 1e-6, "trace": "exact", "dequantisation": "uniform"}}


def evaluate_ode(model, params, batch):
    (values,) = evaluate_bound(
        make_bound("ode", ODE), model, params, [batch], make_mesh(1), 1
    ).rows.values()
    return values[0]


def test_the_ode_takes_each_dimension_s_own_alpha_0():
    """p(z_0/alpha_0) = N(0, C + diag exp(gamma_0)), at points drawn uniformly from each bin."""
    batch, ends = batch_of(4), (-4.0, 13.0)
    model = VDM(SHAPE, LEVELS, OwnEnds(), Exact(ends), "eps", False, ends)
    found = evaluate_ode(model, {"schedule": {}, "denoiser": {}}, batch)
    eps_0 = np.float64(evaluation_noise(0, 0, 0, batch.index, SHAPE).eps_0)
    points = codes.bin_centres(batch.images, LEVELS) + (2 * stats.norm.cdf(eps_0) - 1) / LEVELS
    density = stats.multivariate_normal(np.zeros(3), C + np.diag(np.exp(OwnEnds.low)))
    exact = -density.logpdf(points.reshape(-1, 3)) - 3 * np.log(2 / LEVELS)
    np.testing.assert_allclose(found, exact, atol=2e-3)


class Linear(nn.Module):
    """Statistics that are linear in the image."""

    @nn.compact
    def __call__(self, x):
        matrix = self.param("matrix", nn.initializers.normal(0.7), (3, 4))
        return x.reshape(-1, 3) @ matrix


def test_the_ode_charges_the_context_that_bends_its_path():
    """With and without c the density is the same, so that the values differ by log q(c|x)/p(c)."""
    ends, batch, context = (-4.0, 13.0), batch_of(6), make_context("gaussian", {"num_features": 2})
    plain = polynomial(ends)
    schedule = make_schedule(
        "conditional_polynomial",
        Endpoints(*ends),
        {"learned_endpoints": False, "num_hidden": 4},
        {"shape": SHAPE, "context_size": 2},
    )
    told = dataclasses.replace(plain, schedule=schedule, context=context, encoder=Linear())
    params = told.init(jax.random.key(0))
    conditioner = params["schedule"]["shape"]["conditioner"]
    conditioner["w2"] = jax.random.normal(jax.random.key(1), conditioner["w2"].shape)

    noise = evaluation_contexts(0, 0, 0, batch.index, context.draw_noise)
    x = codes.bin_centres(batch.images, LEVELS).reshape(-1, 3)
    mean, log_scale = np.split(np.float64(x @ params["encoder"]["matrix"]), 2, axis=1)
    c = mean + np.exp(log_scale) * np.float64(noise)
    ratio = stats.norm.logpdf(c, mean, np.exp(log_scale)) - stats.norm.logpdf(c)
    middle = schedule.gamma(params["schedule"], jnp.full(6, 0.5), jnp.asarray(c, jnp.float32))
    assert np.ptp(middle, axis=0).min() > 0.5 and np.abs(ratio.sum(axis=1)).max() > 0.5

    gap = evaluate_ode(told, params, batch) - evaluate_ode(plain, params_of(WEIGHTS), batch)
    np.testing.assert_allclose(gap, ratio.sum(axis=1), atol=2e-3)
