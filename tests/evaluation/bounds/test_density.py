"""The density of the continuous bound's times: unbiased whatever it is, and better when it fits."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vdm.evaluation.bounds.density import UNIFORM, GammaImportanceDensity, fit_density
from vdm.evaluation.bounds.run import evaluate_bound
from vdm.evaluation.bounds.sampled import Continuous
from vdm.runtime.devices import make_mesh

UNEVEN = GammaImportanceDensity((0.1, 3.0, 0.4, 0.5))


@pytest.mark.parametrize("density", [UNIFORM, UNEVEN])
def test_weighted_draws_integrate_any_function(density):
    """int g(s) ds = E_u[g(F^-1(u))/f], by the midpoint rule in u, and the weights have mean 1."""
    u = jnp.asarray((np.arange(200_000) + 0.5) / 200_000, jnp.float32)
    share, height = (np.float64(a) for a in density.quantile(u))
    assert (np.diff(share) >= 0).all() and 0 <= share.min() and share.max() <= 1
    for g, exact in ((lambda s: 1 + 0 * s, 1.0), (lambda s: s**2, 1 / 3), (np.cos, np.sin(1.0))):
        assert (g(share) / height).mean() == pytest.approx(exact, abs=1e-4)


def test_fit_follows_the_integrand(toy, codes):
    """E|eps - eps_hat|^2 = D s^2/(s^2 + exp(gamma)) falls from D to .0017 D; a tenth is uniform."""
    model, params = toy((8, 8, 1))
    density = fit_density(model, params, codes(64, (8, 8, 1)))
    heights = np.array(density.heights)
    assert heights.mean() == pytest.approx(1.0) and heights.min() > 0.09
    middles = -13.3 + 18.3 * (np.arange(32) + 0.5) / 32
    expected = 0.25 / (0.25 + np.exp(middles))
    expected = 0.9 * expected / expected.mean() + 0.1
    np.testing.assert_allclose(heights, expected / expected.mean(), rtol=0.1)


def test_the_fitted_density_is_unbiased_and_varies_less(toy, codes, batches_of):
    model, params = toy((8, 8, 1))
    images = codes(16, (8, 8, 1))
    fitted = Continuous(density="fitted", repeats=4).fit(model, params, images, make_mesh())
    plain = dataclasses.replace(fitted, fitted=UNIFORM)
    values = []
    for bound in (fitted, plain):
        found = evaluate_bound(bound, model, params, batches_of(images, 16), make_mesh(), 16)
        values.append(found.terms["denoising_matching"].mean(axis=1))
    gap = values[0] - values[1]
    error = np.hypot(*(v.std(ddof=1) / 4 for v in values))
    assert abs(gap.mean()) < 4 * error
    assert fitted.label == "continuous-repeats_4-density_fitted"
    # One time of one image: the integrand is flat for two thirds of the way and then near zero.
    spread = [
        evaluate_one(bound, model, params, batches_of(images, 16)) for bound in (fitted, plain)
    ]
    assert spread[0] < 0.5 * spread[1]


def evaluate_one(bound, model, params, batches):
    """Variance over randomisations of a single time per image."""
    single = dataclasses.replace(bound, repeats=1)
    found = evaluate_bound(single, model, params, batches, make_mesh(), 32)
    return found.terms["denoising_matching"].var(axis=0, ddof=1).mean()
