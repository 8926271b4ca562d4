"""Gaussian algebra against sampling, against Bayes' rule in float64, and against itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import diffusion
from vdm.errors import ConfigError

SHAPE = (4, 3, 2, 2)
PAIRS = [(-13.3, -13.2), (-13.3, 5.0), (-2.0, 1.5), (0.0, 1e-4), (4.9, 5.0), (8.0, 24.0)]
"""(gamma_s, gamma_t): a short step, all at once, in between, one of 10^5, a last step, far out."""


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def scales(gamma):
    """(alpha, sigma) in float64."""
    return np.sqrt(sigmoid(-gamma)), np.sqrt(sigmoid(gamma))


def draws(*names: int) -> list[np.ndarray]:
    """One array of shape SHAPE per seed, float64 values that float32 holds exactly."""
    normal = [np.random.default_rng(name).standard_normal(SHAPE) for name in names]
    return [values.astype(np.float32).astype(np.float64) for values in normal]


def exact(gamma) -> np.ndarray:
    """The float64 value of gamma as float32 holds it, [1,1,1,1]."""
    return np.full((1, 1, 1, 1), np.float32(gamma), np.float64)


def f32(*arrays) -> list[jax.Array]:
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def assert_close(actual, expected, scale):
    """Assert equality to 1e-6 of `scale`, a dozen roundings of float32."""
    error = np.abs(np.asarray(actual, np.float64) - expected)
    assert (error <= 1e-6 * np.broadcast_to(scale, error.shape)).all(), error.max()


def test_diffuse_is_a_draw_from_the_marginal():
    x, eps = draws(0, 1)
    gamma = np.random.default_rng(2).uniform(-14, 6, SHAPE).astype(np.float32)  # per pixel
    alpha, sigma = scales(gamma)
    assert_close(diffusion.diffuse(*f32(x, gamma, eps)), alpha * x + sigma * eps, 5.0)
    marginal = diffusion.forward_marginal(*f32(x, gamma))
    assert_close(marginal.mean, alpha * x, 5.0)
    assert_close(marginal.std**2, sigma**2, sigma**2)
    assert_close(marginal.sample(*f32(eps)), alpha * x + sigma * eps, 5.0)


def test_many_small_steps_make_up_the_marginal_exactly():
    """Means and variances of q(z_t|z_s), composed in float64, for 1000 steps."""
    gammas = np.linspace(-13.3, 5.0, 1001, dtype=np.float32).reshape(-1, 1, 1, 1)
    steps = diffusion.forward_step(*f32(np.ones((1000, 1, 1, 1)), gammas[:-1], gammas[1:]))
    factor, variance = scales(gammas[0])[0].item(), sigmoid(gammas[0]).item()
    for ratio, std in zip(*(np.asarray(a, np.float64).ravel() for a in steps), strict=True):
        factor, variance = ratio * factor, ratio**2 * variance + std**2
    # Errors of 1000 roundings add up to 1000 * 6e-8 at worst.
    assert factor == pytest.approx(scales(5.0)[0], rel=6e-5)
    assert variance == pytest.approx(sigmoid(5.0), rel=6e-5)


def test_samples_of_chained_steps_have_the_moments_of_the_marginal():
    """Brute force: 50,000 chains of five steps; the errors are four standard errors."""
    rng, num = np.random.default_rng(0), 50_000
    gammas = [-6.0, -3.0, -1.0, 0.5, 2.0, 4.0]
    x = np.array([-0.9, 0.1, 0.7], np.float32).reshape(1, 1, 1, 3)
    normal = lambda: f32(rng.standard_normal((num, 1, 1, 3)))[0]  # noqa: E731
    z = diffusion.forward_marginal(*f32(x, exact(gammas[0]))).sample(normal())
    for s, t in itertools.pairwise(f32(*map(exact, gammas))):
        z = diffusion.forward_step(z, s, t).sample(normal())
    z = np.asarray(z, np.float64)
    alpha, sigma = scales(gammas[-1])
    mean_error, variance_error = sigma / np.sqrt(num), sigma**2 * np.sqrt(2 / num)
    assert (np.abs(z.mean(axis=0) - alpha * x[0]) < 4 * mean_error).all()
    assert (np.abs(z.var(axis=0) - sigma**2) < 4 * variance_error).all()


def bayes(z_t, x, gamma_s, gamma_t):
    """(mean, variance) of q(z_s|z_t, x), the normalised product of q(z_s|x) and q(z_t|z_s)."""
    (alpha_s, sigma_s), (alpha_t, _) = scales(gamma_s), scales(gamma_t)
    ratio = alpha_t / alpha_s
    # sigma_t^2 - ratio^2 sigma_s^2 without cancellation.
    added = sigmoid(gamma_t) * -np.expm1(gamma_s - gamma_t)
    precision = 1 / sigma_s**2 + ratio**2 / added
    mean = (alpha_s * x / sigma_s**2 + ratio * z_t / added) / precision
    return mean, 1 / precision


def test_the_variance_that_bayes_uses_is_that_of_the_forward_step():
    for gamma_s, gamma_t in itertools.product([-13.3, -1.0, 2.0], [2.5, 5.0]):
        (alpha_s, sigma_s), (alpha_t, sigma_t) = scales(gamma_s), scales(gamma_t)
        added = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
        step = diffusion.forward_step(*f32(np.zeros(SHAPE), exact(gamma_s), exact(gamma_t)))
        np.testing.assert_allclose(step.std**2, added, rtol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_posterior_is_bayes_rule(pair):
    x, z_t = draws(3, 4)
    gammas = [exact(gamma) for gamma in pair]
    mean, variance = bayes(z_t, x, *gammas)
    posterior = diffusion.posterior(*f32(z_t, x, *gammas))
    assert_close(posterior.std**2, variance, variance)
    assert_close(posterior.mean, mean, np.sqrt(variance) + np.abs(mean))


@pytest.mark.parametrize("pair", PAIRS)
def test_reverse_step_is_the_posterior_at_the_predicted_x(pair):
    eps_hat, z_t = draws(5, 6)
    gammas = [exact(gamma) for gamma in pair]
    (alpha_s, _), (alpha_t, sigma_t) = scales(gammas[0]), scales(gammas[1])
    x_hat = (z_t - sigma_t * eps_hat) / alpha_t
    mean, variance = bayes(z_t, x_hat, *gammas)
    step = diffusion.reverse_step(*f32(z_t, eps_hat, gammas[1], gammas[1] - gammas[0]))
    assert_close(step.std**2, variance, variance)
    # Rounding of z_t and eps_hat is magnified by alpha_s/alpha_t, whatever the formula.
    assert_close(step.mean, mean, (alpha_s / alpha_t) * (np.abs(z_t) + np.abs(eps_hat)))


@pytest.mark.parametrize("gamma_t", [-13.0, -1.0, 4.9])
def test_reverse_step_keeps_the_precision_of_a_small_increment(gamma_t):
    """A step of T = 10^5; from two float32 gammas its variance would be off by a percent."""
    increment = 18.3 / 1e5
    step = diffusion.reverse_step(*f32(*draws(5, 6), exact(gamma_t), exact(increment)))
    sigma_s = 1.0 / (1.0 + np.exp(increment - gamma_t))
    np.testing.assert_allclose(step.std**2, -np.expm1(-increment) * sigma_s, rtol=1e-5)


@pytest.mark.parametrize("pair", [(-13.3, -12.8), (-2.0, 1.5), (4.0, 5.0), (-6.0, -5.5)])
def test_kl_of_posterior_and_reverse_step_is_the_weighted_error(pair):
    """1/2 expm1(gamma_t - gamma_s) |eps - eps_hat|^2."""
    x, eps, eps_hat = draws(7, 8, 9)
    s, t = f32(*map(exact, pair))
    z_t = diffusion.diffuse(*f32(x, t, eps))
    q = diffusion.posterior(z_t, *f32(x), s, t)
    p = diffusion.reverse_step(z_t, *f32(eps_hat), t, t - s)
    (q_mean, q_std), (p_mean, p_std) = ([np.asarray(a, np.float64) for a in g] for g in (q, p))
    ratio = np.square(q_std / p_std)
    kl = 0.5 * (ratio - 1 - np.log(ratio) + np.square((q_mean - p_mean) / p_std))
    expected = 0.5 * np.expm1(exact(pair[1]) - exact(pair[0])) * np.square(eps - eps_hat)
    # The means are float32 numbers that differ by a thousandth of themselves at -13.
    sums = kl.sum(axis=(1, 2, 3)), expected.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(*sums, rtol=1e-3)


def definitions(x, eps, gamma) -> dict[str, np.ndarray]:
    """Return the target of each parameterisation, from x and the noise, in float64."""
    alpha, sigma = scales(gamma)
    return {"x": x, "eps": eps, "v": alpha * eps - sigma * x, "score": -eps / sigma}


@pytest.mark.parametrize("name", diffusion.TO_EPS)
@pytest.mark.parametrize("gamma", [-13.3, -4.0, 0.0, 5.0])
def test_parameterisations_follow_their_definitions(name, gamma):
    x, eps = draws(10, 11)
    gamma = exact(gamma)
    alpha, sigma = scales(gamma)
    prediction = definitions(x, eps, gamma)[name]
    predicted, noise, z, gamma = f32(prediction, eps, alpha * x + sigma * eps, gamma)
    # z is rounded to 1e-7 of 3; recovering eps from x divides that by sigma, x from eps by alpha.
    to_eps = diffusion.to_eps(name, predicted, z, gamma)
    np.testing.assert_allclose(to_eps, eps, rtol=1e-5, atol=4e-7 / sigma.item())
    from_eps = diffusion.from_eps(name, noise, z, gamma)
    np.testing.assert_allclose(from_eps, prediction, rtol=1e-5, atol=4e-7 / alpha.item())


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(diffusion.TO_EPS, 2)))
def test_conversions_are_mutual_inverses(one, other):
    """For any prediction, consistent with z or not; in float64, which keeps 1e-8 of it."""
    with jax.enable_x64(True):
        prediction, z = (jnp.asarray(a, jnp.float64) for a in draws(12, 13))
        gamma = jnp.linspace(-13.3, 5.0, SHAPE[0], dtype=jnp.float64)[:, None, None, None]
        eps = diffusion.to_eps(one, prediction, z, gamma)
        eps = diffusion.to_eps(other, diffusion.from_eps(other, eps, z, gamma), z, gamma)
        np.testing.assert_allclose(diffusion.from_eps(one, eps, z, gamma), prediction, rtol=1e-7)


def test_the_score_is_the_gradient_of_the_log_density():
    x, z = f32(*draws(14, 15))
    gamma = jnp.full((1, 1, 1, 1), -1.5)
    alpha, sigma = scales(-1.5)
    score = jax.grad(lambda z: -0.5 * jnp.sum(jnp.square((z - alpha * x) / sigma)))(z)
    eps = diffusion.to_eps("x", x, z, gamma)
    np.testing.assert_allclose(diffusion.from_eps("score", eps, z, gamma), score, rtol=1e-4)


@pytest.mark.parametrize("convert", [diffusion.to_eps, diffusion.from_eps])
def test_an_unknown_parameterisation_lists_the_choices(convert):
    message = "model.parameterisation='epsilon': .*choose one of eps, score, v, x"
    with pytest.raises(ConfigError, match=message):
        convert("epsilon", jnp.zeros(SHAPE), jnp.zeros(SHAPE), jnp.zeros((1, 1, 1, 1)))
