"""A linear Gaussian chain, whose joint densities are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vdm.distributions.diagonal import DiagonalGaussian
from vdm.models import chain
from vdm.models.chain import Chain

LENGTH = 3
ENCODE, UP, DOWN, DECODE = (0.8, 0.5), (0.9, 0.3), (0.7, 0.6), (0.5, 0.4)
"""(factor of the mean, standard deviation) of q_1, q_up, p_down, and of a density of x given z_1."""
IMAGES = np.array([[0, 3], [2, 1], [4, 4]])[..., None, None]


def linear(kind, z):
    return DiagonalGaussian(kind[0] * z, jnp.full((), kind[1]))


def flat(images):
    return jnp.asarray(images, jnp.float32).reshape(len(images), -1)


TOY = Chain(
    length=LENGTH,
    latent_shape=lambda t: (2,),
    q_1=lambda images: linear(ENCODE, flat(images)),
    q_up=lambda t, z: linear(UP, z),
    p_down=lambda t, z: linear(DOWN, z),
    prior=lambda size: DiagonalGaussian(jnp.zeros((size, 2)), jnp.ones(())),
    log_prob=lambda images, z: linear(DECODE, z).log_prob(flat(images)),
    decoder=lambda z: jnp.zeros((len(z), 2, 1, 1, 5)),
    draw_codes=lambda keys, z: jnp.round(z).astype(jnp.int32)[..., None, None],
)


def covariance(first, links):
    """Return the covariance of v_1, v_2 = a v_1 + s e, ..., from v_1's deviation and pairs (a, s)."""
    size = len(links) + 1
    root = np.zeros((size, size))
    root[0, 0] = first
    for row, (factor, deviation) in enumerate(links, start=1):
        root[row] = factor * root[row - 1]
        root[row, row] = deviation
    return root @ root.T


POSTERIOR = covariance(ENCODE[1], [UP, UP])
"""Of (z_1, z_2, z_3) given x."""
JOINT = covariance(1.0, [DOWN, DOWN, DECODE])
"""Of (z_3, z_2, z_1, x) under the model."""


def draws_of(seed, size):
    return lambda t: jax.random.normal(jax.random.fold_in(jax.random.key(seed), t), (size, 2))


def closed_form(images, latents):
    """log p(x, z) - log q(z|x), dimension by dimension, each a chain of its own."""
    x, z = np.float64(flat(images)), np.float64(latents)  # [B,2], [3,B,2]
    slopes = ENCODE[0] * UP[0] ** np.arange(3)
    total = np.zeros(len(x))
    for d in range(2):
        rows = z[:, :, d].T
        mean = x[:, d, None] * slopes
        joint = np.column_stack([rows[:, ::-1], x[:, d]])
        total += multivariate_normal(np.zeros(4), JOINT).logpdf(joint)
        total -= multivariate_normal(np.zeros(3), POSTERIOR).logpdf(rows - mean)
    return total


def test_log_weight_is_the_ratio_of_the_joint_densities():
    latents = list(chain.sample_posterior(TOY, IMAGES, draws_of(0, 3)))
    found = chain.log_weight(TOY, IMAGES, latents)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, closed_form(IMAGES, latents), rtol=1e-5, atol=1e-5)


def test_posterior_draws_have_the_posterior_s_moments():
    size = 20_000
    images = np.repeat(IMAGES[:1], size, axis=0)
    z = np.float64(list(chain.sample_posterior(TOY, images, draws_of(1, size))))
    slopes = ENCODE[0] * UP[0] ** np.arange(3)
    np.testing.assert_allclose(z[:, :, 1].mean(1), 3.0 * slopes, atol=0.02)
    np.testing.assert_allclose(np.cov(z[:, :, 1]), POSTERIOR, atol=0.015)


def test_samples_have_the_model_s_moments():
    size = 20_000
    keys = jax.random.split(jax.random.key(2), size)
    codes, latents = chain.sample(TOY, keys, draws_of(3, size), return_latents=True)
    np.testing.assert_array_equal(codes[..., 0, 0], np.round(latents[0]))
    found = np.cov(np.float64(latents)[::-1, :, 0])
    np.testing.assert_allclose(found, JOINT[:3, :3], atol=0.03)
    np.testing.assert_array_equal(chain.sample(TOY, keys, draws_of(3, size)), codes)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_latents_is_refused(count):
    with pytest.raises(ValueError, match=r"latents: .*3 levels of the chain"):
        chain.log_weight(TOY, IMAGES, [jnp.zeros((3, 2))] * count)
