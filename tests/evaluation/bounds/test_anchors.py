"""Gaussian data N(0, 1/4) with the optimal denoiser: bounds whose values are known."""

import functools

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from vdm.evaluation.bounds import make_bound
from vdm.evaluation.bounds.importance import mean_over_groups, nested_bounds
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.evaluation.statistics.estimate import estimate
from vdm.runtime.devices import make_mesh

L_INF = 8.592713
"""bits/dim of denoising matching, for every schedule from -13.3 to 5."""
L_T = {10: 22.690079, 100: 9.356873, 1000: 8.665168, 10_000: 8.599920}
SHAPE = (8, 8, 1)


def matching(found):
    """The denoising term's estimate in bits/dim."""
    return estimate(found.terms["denoising_matching"], found.num_dims)


def run(bound, model, params, batches, randomisations=8):
    return evaluate_bound(bound, model, params, batches, make_mesh(), randomisations)


def check(found, anchor, least_error):
    """Within four Monte Carlo errors, which must be small."""
    assert found.monte_carlo_error < least_error * anchor
    assert abs(found.mean - anchor) < 4 * found.monte_carlo_error


@pytest.mark.parametrize("density", ["uniform", "fitted"])
def test_continuous_time(toy, batches_of, codes, density):
    model, params = toy(SHAPE)
    images = codes(32, SHAPE)
    bound = make_bound("continuous", {"continuous": {"density": density}})
    bound = bound.fit(model, params, images, make_mesh())
    check(matching(run(bound, model, params, batches_of(images, 32))), L_INF, 0.005)


@pytest.mark.parametrize("steps", [10, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_term_of_t_steps(toy, batches_of, codes, steps):
    model, params = toy(SHAPE)
    found = run(make_bound(f"dense@{steps}"), model, params, batches_of(codes(32, SHAPE), 32))
    check(matching(found), L_T[steps], 0.005)


@pytest.mark.slow
def test_every_term_of_ten_thousand_steps(toy, batches_of, codes):
    """Exact increments: at T = 10^4 a difference of rounded gammas would miss by 5.8e-4."""
    model, params = toy(SHAPE)
    found = run(make_bound("dense@10000"), model, params, batches_of(codes(8, SHAPE), 8))
    check(matching(found), L_T[10_000], 4e-4)


def test_steps_drawn_at_random(toy, batches_of, codes):
    model, params = toy(SHAPE)
    found = run(make_bound("discrete@100"), model, params, batches_of(codes(32, SHAPE), 32))
    check(matching(found), L_T[100], 0.005)


@pytest.mark.parametrize("steps", [1, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_consistency_form_is_the_same_bound(toy, batches_of, codes, steps):
    """Prior and matching together: the two forms divide their sum differently."""
    model, params = toy(SHAPE)
    batches = batches_of(codes(32, SHAPE), 32)
    forms = [
        run(make_bound(f"{n}@{steps}"), model, params, batches) for n in ("dense", "consistency")
    ]
    one, other = (estimate(*(next(iter(f.rows.values())), f.num_dims)) for f in forms)
    errors = np.hypot(one.monte_carlo_error, other.monte_carlo_error)
    assert errors < 0.02 * one.mean and abs(one.mean - other.mean) < 4 * errors


ENDS, STEPS, WEIGHTS = (-3.0, 3.0), 3, 4


@functools.cache
def draws_of_log_weight(num_draws):
    """log w of independent trajectories in float64, from z itself and Gaussian densities, two codes."""
    rng = np.random.default_rng(0)
    gamma = ENDS[0] + (ENDS[1] - ENDS[0]) * np.arange(STEPS + 1) / STEPS
    alpha, sigma = np.sqrt(1 / (1 + np.exp(gamma))), np.sqrt(1 / (1 + np.exp(-gamma)))
    x = np.resize([-0.5, 0.5], num_draws)
    z = [alpha[0] * x + sigma[0] * rng.normal(size=num_draws)]
    for i in range(1, STEPS + 1):
        ratio = alpha[i] / alpha[i - 1]
        spread = np.sqrt(sigma[i] ** 2 - ratio**2 * sigma[i - 1] ** 2)
        z.append(ratio * z[-1] + spread * rng.normal(size=num_draws))
    logits = np.stack([-((z[0] / alpha[0] - c) ** 2) / (2 * np.exp(gamma[0])) for c in (-0.5, 0.5)])
    total = np.where(x < 0, *logits) - logsumexp(logits, axis=0) + stats.norm.logpdf(z[-1])
    total -= stats.norm.logpdf(z[-1], alpha[-1] * x, sigma[-1])
    for s, t in zip(range(STEPS), range(1, STEPS + 1), strict=True):
        # Bayes: q(z_s|z_t,x) = N(mean, spread^2) from the prior N(alpha_s x, sigma_s^2) and z_t.
        ratio = alpha[t] / alpha[s]
        noise = sigma[t] ** 2 - ratio**2 * sigma[s] ** 2
        precision = 1 / sigma[s] ** 2 + ratio**2 / noise
        x_hat = alpha[t] * 0.25 * z[t] / (alpha[t] ** 2 * 0.25 + sigma[t] ** 2)
        for sign, guess in ((1, x_hat), (-1, x)):
            mean = (alpha[s] * guess / sigma[s] ** 2 + ratio * z[t] / noise) / precision
            total += sign * stats.norm.logpdf(z[s], mean, precision**-0.5)
    return total


def test_importance_weighted_equals_a_million_independent_draws(toy, batches_of, codes):
    num_images = 20_000
    model, params = toy((1, 1, 1), ENDS)
    bound = make_bound(f"iwae@{STEPS}", {"iwae": {"num_weights": WEIGHTS}})
    batches = batches_of(codes(num_images, (1, 1, 1)), num_images)
    rows = list(run(bound, model, params, batches, 1).rows.values())
    draws = draws_of_log_weight(1_000_000).reshape(-1, 2, WEIGHTS, order="F")
    for k, values in zip((1, 2, 4), rows, strict=True):
        groups = np.moveaxis(draws, 1, 2).reshape(-1, WEIGHTS // k, k, 2)
        exact = np.log(k) - logsumexp(groups, axis=2)
        error = np.hypot(
            values.mean(0).std() / np.sqrt(num_images), exact.std() / np.sqrt(exact.size)
        )
        assert abs(values.mean() - exact.mean()) < 4 * error
        assert error < 0.01


def test_nested_groups_equal_log_mean_exp_and_never_increase():
    rng = np.random.default_rng(0)
    log_weights = (
        rng.normal(scale=rng.choice([0.0, 1e-8, 1.0, 300.0], (500, 1)), size=(500, 32)) - 40
    )
    groups = nested_bounds(log_weights)
    assert list(groups) == [1, 2, 4, 8, 16, 32]
    for k, values in groups.items():
        exact = np.log(k) - logsumexp(log_weights.reshape(500, 32 // k, k), axis=2)
        np.testing.assert_allclose(values, exact, rtol=1e-12, atol=1e-12)
    means = np.stack([mean_over_groups(values) for values in groups.values()])
    assert (np.diff(means, axis=0) <= 0).all()


def test_importance_weighted_values_never_increase_per_image(small, batches_of):
    images = np.random.default_rng(1).integers(0, 17, (16, 4, 4, 1))
    bound = make_bound("iwae@4", {"iwae": {"num_weights": 8}})
    found = run(bound, *small, batches_of(images, 16), 1)
    means = [mean_over_groups(values.T) for values in found.rows.values()]
    assert len(means) == 4 and (np.diff(means, axis=0) <= 0).all()


def test_one_weight_is_the_bound_of_t_steps(small, batches_of):
    images = np.random.default_rng(1).integers(0, 17, (16, 4, 4, 1))
    options = {"iwae": {"num_weights": 64}}
    one = run(make_bound("iwae@5", options), *small, batches_of(images, 16), 1)
    other = run(make_bound("dense@5"), *small, batches_of(images, 16), 64)
    first, dense = (estimate(next(iter(f.rows.values())), f.num_dims) for f in (one, other))
    errors = np.hypot(first.monte_carlo_error, dense.monte_carlo_error)
    assert errors < 0.02 * dense.mean and abs(first.mean - dense.mean) < 4 * errors
