"""Means and errors: by hand, and by how often their intervals hold the truth."""

import math

import numpy as np
import pytest

from vdm.estimate import estimate
from vdm.noise import stratified_times

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
    """The same spread as `vdm.noise` makes for training."""
    import jax

    times = np.sort(np.asarray(stratified_times(jax.random.key(0), 60)))
    assert np.array_equal(np.floor(times * 60), np.arange(60))
