"""Two pixels whose bound does not depend on the path, and does: against the mutual information."""

import numpy as np
import pytest

from experiments.reports.page import plt
from experiments.studies import two_pixels_integral


def test_a_posterior_mean_pays_the_mutual_information_on_every_path():
    exact = two_pixels_integral.closed_form()
    for name, path in two_pixels_integral.PATHS.items():
        assert two_pixels_integral.integral(path, told_both=True) == pytest.approx(
            exact, rel=1e-5
        ), name


def test_the_mean_is_enough_on_the_straight_path_alone():
    exact = two_pixels_integral.closed_form()
    found = {
        n: two_pixels_integral.integral(p, False) for n, p in two_pixels_integral.PATHS.items()
    }
    assert found.pop("straight") == pytest.approx(exact, rel=1e-5)
    assert min(found.values()) > exact + 0.03 and max(found.values()) > exact + 2.0


def test_the_field_turns_only_for_the_denoiser_that_is_told_the_mean():
    gamma = np.random.default_rng(0).uniform(-6, 4, (50, 2))
    still, turning = (np.abs(two_pixels_integral.curl(gamma, both)) for both in (True, False))
    assert still.max() < 1e-6 and turning.max() > 0.01


def test_the_field_is_the_mean_square_of_drawn_errors():
    """2 f against 400,000 draws of x and eps, with Bayes' rule for two Gaussians written out anew."""
    rng, gamma = np.random.default_rng(1), np.array([-2.0, 1.0])
    x = rng.multivariate_normal([0, 0], two_pixels_integral.COVARIANCE, 400_000)
    eps = rng.normal(size=x.shape)
    alpha, sigma = np.sqrt(1 / (1 + np.exp(gamma))), np.sqrt(1 / (1 + np.exp(-gamma)))
    z = alpha * x + sigma * eps
    precision = np.linalg.inv(two_pixels_integral.COVARIANCE) + np.diag((alpha / sigma) ** 2)
    x_hat = (z * alpha / sigma**2) @ np.linalg.inv(precision)
    squares = (eps - (z - alpha * x_hat) / sigma) ** 2
    error = squares.std(axis=0) / np.sqrt(len(x))
    found = 2 * two_pixels_integral.field(gamma[None], True)[0]
    np.testing.assert_array_less(np.abs(squares.mean(axis=0) - found), 4 * error)


def test_table_and_figure_show_every_path():
    table = two_pixels_integral.table()
    assert [row[0] for row in table.rows] == list(two_pixels_integral.PATHS)
    figure = two_pixels_integral.draw()
    assert len(figure.axes) == 5 and len(figure.axes[0].lines) == len(two_pixels_integral.PATHS)
    plt.close(figure)
