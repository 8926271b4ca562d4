"""KL divergence of each reverse step, against Gaussian densities in float64 at the same latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vdm.distributions.codes import bin_centres
from vdm.evaluation.analysis.decompositions import evaluate_decompositions
from vdm.evaluation.bounds import trajectories
from vdm.runtime.devices import make_mesh
from vdm.types import Known

STEPS, NUM, WEIGHTS = 5, 3, 2


@pytest.fixture(scope="module")
def simulated(small, batches_of):
    """(z in float64 by step, x, gammas, eps_hat by step, costs, ends)."""
    model, params = small
    (batch,) = batches_of(np.random.default_rng(0).integers(0, 17, (NUM, 4, 4, 1)), NUM)
    weights = jnp.arange(WEIGHTS)
    position = trajectories.start(0, 0, batch.index, weights, model.shape)
    steps = jnp.arange(1, STEPS + 1)
    eta = trajectories.innovations(0, 0, batch.index, steps, weights, model.shape)
    advance = jax.jit(trajectories.advance, static_argnums=(0, 3))
    _, costs, ends = advance(model, params, batch, STEPS, position, eta, steps)
    t = jnp.arange(STEPS + 1) / STEPS
    gamma = np.float64(model.schedule.gamma(params["schedule"], t)).reshape(-1)
    alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
    x = np.float64(bin_centres(batch.images, 17))[:, None]
    z, eps_hat = [alpha[0] * x + sigma[0] * np.float64(position.eps)], [None]
    for i in range(1, STEPS + 1):
        ratio = alpha[i] / alpha[i - 1]
        spread = np.sqrt(sigma[i] ** 2 - ratio**2 * sigma[i - 1] ** 2)
        z.append(ratio * z[-1] + spread * np.float64(eta[:, i - 1]))
        flat = jnp.asarray(z[-1], jnp.float32).reshape(-1, 4, 4, 1)
        wide = jnp.full((len(flat), 1, 1, 1), gamma[i], jnp.float32)
        found = model.predict_eps(params, flat, wide, Known(jnp.zeros(len(flat))))
        eps_hat.append(np.float64(found).reshape(z[-1].shape))
    return z, x, alpha, sigma, eps_hat, costs, ends


def total(values):
    return values.sum(axis=(-3, -2, -1))


def posterior(s, t, z, guess, alpha, sigma):
    """(mean, deviation) of q(z_s|z_t, x = guess), by Bayes' rule."""
    ratio = alpha[t] / alpha[s]
    noise = sigma[t] ** 2 - ratio**2 * sigma[s] ** 2
    precision = 1 / sigma[s] ** 2 + ratio**2 / noise
    return (alpha[s] * guess / sigma[s] ** 2 + ratio * z[t] / noise) / precision, precision**-0.5


def forward(s, z, x, alpha, sigma):
    """(mean, deviation) of q(z_s|z_r), r the step before; of q(z_0|x) at the first."""
    if s == 0:
        return alpha[0] * x, sigma[0]
    ratio = alpha[s] / alpha[s - 1]
    return ratio * z[s - 1], np.sqrt(sigma[s] ** 2 - ratio**2 * sigma[s - 1] ** 2)


def kl(one, other):
    (m1, s1), (m2, s2) = one, other
    return np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


def test_steps_cost_what_densities_say(simulated):
    z, x, alpha, sigma, eps_hat, costs, _ = simulated
    for s, t in zip(range(STEPS), range(1, STEPS + 1), strict=True):
        x_hat = (z[t] - sigma[t] * eps_hat[t]) / alpha[t]
        q, p = (posterior(s, t, z, guess, alpha, sigma) for guess in (x, x_hat))
        q_forward = forward(s, z, x, alpha, sigma)
        log_p = stats.norm.logpdf(z[s], *p)
        expected = {
            "matching": kl(q, p),
            "log_ratio": stats.norm.logpdf(z[s], *q) - log_p,
            "consistency": stats.norm.logpdf(z[s], *q_forward) - log_p,
            "consistency_kl": kl(np.broadcast_arrays(*q_forward), np.broadcast_arrays(*p)),
        }
        for name, value in expected.items():
            value = total(np.broadcast_to(value, z[s].shape))
            np.testing.assert_allclose(getattr(costs, name)[:, s], value, rtol=2e-4, atol=2e-3)


def test_ends_cost_what_densities_say(simulated):
    z, x, alpha, sigma, _, _, ends = simulated
    ratio = stats.norm.logpdf(z[-1], alpha[-1] * x, sigma[-1]) - stats.norm.logpdf(z[-1])
    np.testing.assert_allclose(ends.log_ratio, total(ratio), rtol=1e-4, atol=1e-3)
    last = forward(STEPS, z, x, alpha, sigma)
    expected = total(kl(last, (0.0, 1.0)))
    np.testing.assert_allclose(ends.consistency, expected, rtol=1e-4, atol=1e-3)


def test_the_two_decompositions_agree_and_the_literal_kl_does_not(toy, batches_of, codes):
    """Gaussian data: denoising matching varies less for one t, the consistency form for all T."""
    model, params = toy((4, 4, 1))
    batches = batches_of(codes(32, (4, 4, 1)), 32)
    luo = evaluate_decompositions(model, params, batches, make_mesh(), 50, 16)
    means = {name: one.total.mean(axis=1) for name, one in luo.items()}
    gap = means["consistency"] - means["denoising"]
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / 4
    assert gap.std(ddof=1) / 4 < 0.02 * means["denoising"].mean()
    assert means["consistency_kl"].mean() > 3 * means["denoising"].mean()
    assert luo["consistency"].variance_one_time > 5 * luo["denoising"].variance_one_time
    assert luo["consistency"].variance_dense < luo["denoising"].variance_dense


def test_variances_are_those_of_the_estimators():
    """Against 200,000 draws of one random step; the terms are given numbers."""
    from vdm.evaluation.analysis.decompositions import Decomposition

    rng = np.random.default_rng(0)
    terms = rng.normal(1.0, 2.0, (4000, 1, 6))
    found = Decomposition(np.zeros((4000, 1)), terms.sum(2), 6 * np.square(terms).sum(2))
    assert found.variance_dense == pytest.approx(24.0, rel=0.1)
    drawn = 6 * rng.normal(1.0, 2.0, 200_000)
    assert found.variance_one_time == pytest.approx(drawn.var(), rel=0.05)
