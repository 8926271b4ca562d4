"""Means and errors: by hand, and by how often their intervals hold the truth."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from vdm.evaluation.statistics.estimate import estimate, holm, shared_in_time
from vdm.models.vdm.noise import evaluation_noise, stratified_times

LN2 = math.log(2.0)
TRIALS = 2000


def test_means_and_errors_by_hand():
    nats = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]]) * LN2 * 16
    found = estimate(nats, 16)
    assert math.isclose(found.mean, 3.0)
    # Images average 2, 2, 5, variance 3; within them the variances are 2, 0, 2, of which half
    # belongs to a mean of two; randomisations average 3, 3.
    assert math.isclose(found.standard_error, math.sqrt((3.0 - 4 / 3 / 2) / 3))
    assert math.isclose(found.monte_carlo_error, 0.0, abs_tol=1e-12)


def test_one_randomisation_is_not_an_error_of_zero():
    found = estimate(np.array([[1.0, 2.0, 6.0]]) * LN2, 1)
    assert found.monte_carlo_error is None
    # Mean 3, variance 7; t with 2 degrees of freedom reaches 4.30265.
    assert math.isclose(found.standard_error, math.sqrt(7 / 3))
    assert math.isclose(found.interval[1], 3.0 + 4.30265 * math.sqrt(7 / 3), rel_tol=1e-5)


def test_one_image_has_a_monte_carlo_error_alone():
    found = estimate(np.array([[1.0], [3.0]]) * LN2, 1)
    assert found.standard_error is None and found.interval is None
    assert math.isclose(found.monte_carlo_error, 1.0)


def test_constant_values_are_certain():
    found = estimate(np.full((8, 5), LN2), 1)
    assert found.standard_error == 0.0 and found.interval == (1.0, 1.0)


def independent(rng, num_randomisations, num_images):
    return rng.normal(size=(num_randomisations, num_images))


def shared(rng, num_randomisations, num_images):
    """One shift of all images, as times have."""
    return independent(rng, num_randomisations, num_images) + 0.3 * rng.normal(
        size=(num_randomisations, 1)
    )


def stratified(rng, num_randomisations, num_images):
    """A steep function of times that are spread evenly over the images: its errors nearly cancel."""
    strata = np.stack([rng.permutation(num_images) for _ in range(num_randomisations)])
    times = (strata + rng.random(strata.shape)) / num_images
    return 6.0 * (times - 0.5) + 0.1 * independent(rng, num_randomisations, num_images)


@pytest.mark.parametrize("errors", [independent, shared, stratified])
@pytest.mark.parametrize("num_randomisations", [8, 1])
def test_intervals_cover_the_population_and_the_images(errors, num_randomisations):
    """Images and noise anew 2,000 times: 95 % within 1.5 %, three standard errors of the share."""
    if num_randomisations == 1 and errors is shared:
        pytest.skip("a shift of all images cannot be seen in one randomisation")
    rng = np.random.default_rng(0)
    population = given_images = 0.0
    for _ in range(TRIALS):
        images = rng.normal(size=60)
        found = estimate((images + errors(rng, num_randomisations, 60)) * LN2, 1)
        population += found.interval[0] <= 0.0 <= found.interval[1]
        if num_randomisations > 1:
            # Student's t with 7 degrees of freedom: 95 % within 2.365.
            given_images += abs(found.mean - images.mean()) <= 2.365 * found.monte_carlo_error
    if num_randomisations == 1 and errors is stratified:
        assert population / TRIALS > 0.99  # too wide, as the docstring says
        return
    assert abs(population / TRIALS - 0.95) < 0.015
    if num_randomisations > 1:
        assert abs(given_images / TRIALS - 0.95) < 0.015


def test_stratified_times_are_as_the_test_takes_them():
    """The same spread as `vdm.models.vdm.noise` makes for training."""
    times = np.sort(np.asarray(stratified_times(jax.random.key(0), 60)))
    assert np.array_equal(np.floor(times * 60), np.arange(60))


LOW, HIGH, VARIANCE, NUM_DIMS = -13.3, 5.0, 0.25, 4


def shares(snr):
    """Return (a, b) of eps - eps_hat = a eps - b x, for the optimal denoiser of Gaussian data."""
    total = snr * VARIANCE + 1.0
    return 1.0 - 1.0 / total, np.sqrt(snr) / total


def exact_nats(x):
    """1/2 integral of E|eps - eps_hat|^2 over gamma for images x [N, D], in closed form."""
    low, high = math.exp(-HIGH), math.exp(-LOW)
    ratio = math.log((1 + VARIANCE * high) / (1 + VARIANCE * low))
    edge = 1 / (1 + VARIANCE * high) - 1 / (1 + VARIANCE * low)
    return 0.5 * (ratio + (1.0 - x**2 / VARIANCE) * edge).sum(axis=1)


def test_closed_form_of_one_image():
    def slope(gamma, x):
        a, b = shares(math.exp(-gamma))
        return 0.5 * (a**2 + b**2 * x**2)

    for x in (0.0, 0.7):
        (found, error) = integrate.quad(slope, LOW, HIGH, args=(x,))
        assert abs(found - exact_nats(np.array([[x]]))[0]) < 1e-6 + error


@pytest.mark.parametrize("num_images", [40, pytest.param(200, marks=pytest.mark.nightly)])
def test_intervals_of_the_bound_cover_in_2000_evaluations(num_images):
    """Gaussian data, its optimal denoiser, and the times and noise that evaluations draw."""
    count, rng = 8, np.random.default_rng(0)

    @jax.jit
    def draw(trial):
        def one(r):
            noise = evaluation_noise(3, trial * count + r, 0, jnp.arange(num_images), (2, 2, 1))
            return noise.times, noise.eps.reshape(num_images, NUM_DIMS)

        return jax.vmap(one)(jnp.arange(count))

    population = given_images = 0
    truth = exact_nats(np.full((1, NUM_DIMS), math.sqrt(VARIANCE)))[0] / (NUM_DIMS * LN2)
    assert abs(truth - 8.592713) < 1e-6
    for trial in range(TRIALS):
        x = rng.normal(size=(num_images, NUM_DIMS)) * math.sqrt(VARIANCE)
        times, eps = (np.asarray(v, np.float64) for v in draw(trial))
        a, b = shares(np.exp(-(LOW + (HIGH - LOW) * times))[..., None])
        nats = 0.5 * (HIGH - LOW) * ((a * eps - b * x) ** 2).sum(axis=2)
        found = estimate(nats, NUM_DIMS, shared_in_time(nats, times[None]))
        population += found.interval[0] <= truth <= found.interval[1]
        exact = exact_nats(x).mean() / (NUM_DIMS * LN2)
        given_images += found.given_images[0] <= exact <= found.given_images[1]
    assert abs(given_images / TRIALS - 0.95) < 0.015
    # 8.6 bits that all images share against .1 that differ: of 40 images the interval is cautious.
    most = 0.015 if num_images > 40 else 0.04
    assert -0.015 < population / TRIALS - 0.95 < most


def test_what_images_share_in_time_does_not_hide_their_scatter():
    """Images that differ by .2, times that cost up to 6: with the times their scatter is found."""
    rng = np.random.default_rng(0)
    errors, plain = [], []
    for _ in range(200):
        times = np.stack([(rng.permutation(300) + rng.random(300)) / 300 for _ in range(8)])
        values = rng.normal(size=300) * 0.2 + 6.0 * (times - 0.5) + 0.1 * rng.normal(size=(8, 300))
        shared = shared_in_time(values, times[None])
        errors.append(estimate(values * LN2, 1, shared * LN2).standard_error)
        plain.append(estimate(values * LN2, 1).standard_error)
    true = math.hypot(0.2, 0.1 / math.sqrt(8)) / math.sqrt(300)
    assert np.quantile(errors, 0.05) > 0.85 * true and np.quantile(errors, 0.95) < 1.15 * true
    assert np.std(plain) > 4 * np.std(errors)


def test_the_function_of_time_is_fitted_for_averages_over_repeats():
    times = np.random.default_rng(0).random((3, 8, 60))
    values = np.mean(5.0 * times, axis=0)
    np.testing.assert_allclose(shared_in_time(values, times), values, atol=1e-9)


def test_holm_by_hand_and_by_error_rate():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    rng = np.random.default_rng(0)
    wrong = sum(min(holm(2 * stats.norm.sf(abs(rng.normal(size=5))))) < 0.05 for _ in range(TRIALS))
    assert wrong / TRIALS < 0.065
