"""The VDM as a chain of latents, against the same weight rearranged by Bayes' rule in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import norm

from vdm.errors import ConfigError
from vdm.models import chain
from vdm.models.vdm.make import make_model
from vdm.types import DataSpec, Known

STEPS, LEVELS = 4, 5
IMAGES = np.random.default_rng(0).integers(0, LEVELS, (3, 2, 3, 1))


@pytest.fixture(scope="module", params=["learned_linear", "pixel_polynomial"])
def model_and_params(request):
    model = make_model(
        DataSpec("small", (2, 3, 1), LEVELS, {}, ""),
        {"parameterisation": "v", "reconstruction": "sampled"},
        {"name": request.param, "gamma_0": -5.0, "gamma_1": 4.0},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
    )
    shake = lambda p: p + 0.2 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731
    params = model.init(jax.random.key(0))
    return model, model.project(jax.tree.map(shake, params))


def rearranged(model, params, latents):
    """log p(x|z_0) + log p(z_1) - log q(z_1|x) - sum_t log [q(z_s|z_t,x) / p(z_s|z_t)]."""
    z = np.float64(latents)
    x = (2.0 * IMAGES + 1.0) / LEVELS - 1.0
    times = jnp.arange(STEPS + 1) / STEPS
    gammas = np.float64(model.gamma(params, times))[:, None]
    alphas, sigmas = np.sqrt(expit(-gammas)), np.sqrt(expit(gammas))
    centres = (2.0 * np.arange(LEVELS) + 1.0) / LEVELS - 1.0
    logits = -0.5 * ((z[0][..., None] - alphas[0][..., None] * centres) / sigmas[0][..., None]) ** 2
    chosen = np.take_along_axis(logits, IMAGES[..., None], -1)[..., 0]
    total = chosen - logsumexp(logits, axis=-1)
    total += norm.logpdf(z[-1]) - norm.logpdf(z[-1], alphas[-1] * x, sigmas[-1])
    for t in range(1, STEPS + 1):
        a_s, a_t, s_s, s_t = alphas[t - 1], alphas[t], sigmas[t - 1], sigmas[t]
        between = s_t**2 - (a_t / a_s) ** 2 * s_s**2  # variance of z_t given z_s
        deviation = np.sqrt(between) * s_s / s_t
        shape = (len(IMAGES), *gammas.shape[2:])
        told = jnp.broadcast_to(jnp.asarray(gammas[t], jnp.float32), shape)
        eps_hat = np.float64(model.predict(params, latents[t], told, Known(jnp.zeros(len(told)))))
        x_hat = (z[t] - s_t * eps_hat) / a_t

        def mean(clean, t=t, ratio=a_t / a_s, a_s=a_s, s_s=s_s, s_t=s_t, between=between):
            return (ratio * s_s**2 * z[t] + a_s * between * clean) / s_t**2

        total -= norm.logpdf(z[t - 1], mean(x), deviation)
        total += norm.logpdf(z[t - 1], mean(x_hat), deviation)
    return total.sum((1, 2, 3))


@pytest.mark.slow
def test_log_weight_is_the_bound_s_summand_by_bayes_rule(model_and_params):
    model, params = model_and_params
    factors = model.chain(params, STEPS)
    assert factors.length == STEPS + 1
    key = jax.random.key(1)
    draws = lambda t: jax.random.normal(jax.random.fold_in(key, t), IMAGES.shape)  # noqa: E731
    latents = list(chain.sample_posterior(factors, IMAGES, draws))
    found = chain.log_weight(factors, IMAGES, latents)
    np.testing.assert_allclose(found, rearranged(model, params, latents), rtol=1e-4)


def test_a_chain_has_a_step_and_no_context_of_others(model_and_params):
    model, params = model_and_params
    with pytest.raises(ConfigError, match="num_timesteps=0"):
        model.chain(params)
    with pytest.raises(ConfigError, match="context"):
        model.chain(params, STEPS, jnp.zeros((3, 2)))
