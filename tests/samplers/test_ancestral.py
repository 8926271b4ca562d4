"""Ancestral sampling against data whose exact denoiser, and so whose exact samples, are known."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.correlated_gaussian import (
    backward,
    guess_of,
    make_exact,
    path_gammas,
    path_params,
    scales,
)
from vdm.distributions.codes import bin_centres, log_prob, sample
from vdm.models.vdm.model import VDM
from vdm.samplers.ancestral import ancestral
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import alpha_squared, sigma_squared

MEAN, VARIANCE = 0.3, 0.04
ENDS = (-10.0, 6.0)
SHAPE, NUM = (8, 8, 4), 400


class Exact(nn.Module):
    """E[eps|z] for x ~ N(MEAN, VARIANCE): sigma (z - alpha MEAN) / (alpha^2 VARIANCE + sigma^2)."""

    def __call__(self, z, time, known, train):
        gamma = ENDS[0] + time * (ENDS[1] - ENDS[0])
        alpha, sigma = jnp.sqrt(alpha_squared(gamma)), jnp.sqrt(sigma_squared(gamma))
        variance = alpha_squared(gamma) * VARIANCE + sigma_squared(gamma)
        return sigma * (z - alpha * MEAN) / variance


def moments(num_steps):
    """Mean and variance of z_0/alpha_0 over NUM * 256 independent samples."""
    schedule = make_schedule("linear", Endpoints(*ENDS))
    model = VDM(SHAPE, 256, schedule, Exact(), "eps", True, ENDS)
    params = {"schedule": {}, "denoiser": {}}
    draw = jax.jit(lambda i: ancestral(model, params, 0, i, num_steps))
    found = draw(jnp.arange(NUM))
    z_0 = np.asarray(found.z[-1], np.float64) / np.sqrt(1 / (1 + np.exp(ENDS[0])))
    return z_0.mean(), z_0.var(), np.asarray(found.images)


def recursion(num_steps):
    """Return mean and variance of z_0 in float64: every step is linear in z."""
    gammas = np.linspace(ENDS[1], ENDS[0], num_steps + 1)
    alpha2, sigma2 = 1 / (1 + np.exp(gammas)), 1 / (1 + np.exp(-gammas))
    mean, variance = 0.0, 1.0
    for i in range(num_steps):
        c = -np.expm1(gammas[i + 1] - gammas[i])
        total = alpha2[i] * VARIANCE + sigma2[i]
        ratio = np.sqrt(alpha2[i + 1] / alpha2[i])
        slope = ratio * (1 - c * sigma2[i] / total)
        mean = slope * mean + ratio * c * sigma2[i] * np.sqrt(alpha2[i]) * MEAN / total
        variance = slope**2 * variance + c * sigma2[i + 1]
    return mean / np.sqrt(alpha2[-1]), variance / alpha2[-1]


@pytest.mark.parametrize("num_steps", [1, 5, pytest.param(50, marks=pytest.mark.slow)])
def test_moments_follow_the_exact_recursion(num_steps):
    mean, variance, _ = moments(num_steps)
    expected = recursion(num_steps)
    count = NUM * 256
    assert abs(mean - expected[0]) < 4 * np.sqrt(expected[1] / count)
    assert abs(variance - expected[1]) < 4 * expected[1] * np.sqrt(2 / count)


@pytest.mark.slow
def test_the_error_falls_with_the_number_of_steps():
    """Towards the data's own moments (with the noise of z_0), as 1/steps."""
    target = VARIANCE + np.exp(ENDS[0])
    errors = [abs(moments(n)[1] - target) for n in (8, 32, 128)]
    noise = 4 * target * np.sqrt(2 / (NUM * 256))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 4 * noise
    assert abs(recursion(1000)[1] - target) < 0.15 * abs(recursion(100)[1] - target)


def test_samples_end_as_the_codes_of_z_0():
    mean, variance, images = moments(100)
    values = np.asarray(bin_centres(images, 256), np.float64)
    assert abs(values.mean() - MEAN) < 4 * np.sqrt(VARIANCE / values.size) + 1e-3
    # Nearly every draw from p(x|z_0) is within the 1 % of spread that z_0 has of its own.
    assert abs(values.var() - variance) < 0.02 * variance
    assert abs(mean - MEAN) < 0.01


def test_decoder_sample_has_the_decoder_probabilities():
    """Against log_prob, by counts over 20,000 keys."""
    gamma_0 = jnp.full((1, 1, 1, 1), -1.0)
    z = jnp.full((20_000, 1, 1, 1), 0.1)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.jit(lambda k: sample(k, z, gamma_0, 5))(keys)).ravel()
    codes = jnp.arange(5).reshape(5, 1, 1, 1)
    exact = np.exp(np.asarray(log_prob(codes, z[:5], gamma_0, 5), np.float64)).ravel()
    assert abs(exact.sum() - 1) < 1e-5
    share = np.bincount(drawn, minlength=5) / len(drawn)
    assert np.all(np.abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / len(drawn)))


def path_recursion(path):
    """The covariance of z_0 after ancestral sampling along `path`."""
    covariance = np.eye(3)
    for gamma_t, gamma_s in itertools.pairwise(path[::-1]):
        from_z, from_x, variance = backward(gamma_s, gamma_t)
        matrix = from_z + from_x @ guess_of(*scales(gamma_t))
        covariance = matrix @ covariance @ matrix.T + variance
    return covariance


def test_samples_have_the_covariance_of_the_linear_recursion():
    """40,000 samples of 5 steps; an entry's error is sqrt((S_ii S_jj + S_ij^2)/N)."""
    far = "back and forth"
    ends, num_steps, num = (-4.0, 5.0), 5, 40_000
    draw = jax.jit(lambda i: ancestral(make_exact(ends), path_params(far), 0, i, num_steps).z[-1])
    z_0 = np.float64(draw(jnp.arange(num))).reshape(num, 3)
    expected = path_recursion(path_gammas(far, ends, num_steps))
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / num)
    np.testing.assert_array_less(np.abs(z_0.T @ z_0 / num - expected), 4 * error)
    np.testing.assert_array_less(np.abs(z_0.mean(axis=0)), 4 * np.sqrt(variances / num))
    straight = path_recursion(path_gammas("straight", ends, num_steps))
    assert (np.abs(straight - expected) / error).max() > 20  # the path matters
