"""Embeddings, schedules and decoder against the official implementation (README.md)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.distributions.codes import bin_centres, log_prob
from vdm.networks.layers import fourier_features, time_embedding
from vdm.schedules.base import endpoints, gamma_and_derivative

LEVELS = 256


@pytest.mark.parametrize("size", [32, 128])
def test_time_embedding(committed, assert_official, size):
    arrays = committed("embed")
    assert_official(time_embedding(arrays["timesteps"], size), arrays, f"{{}}/temb_{size}")


def test_fourier_features(committed, assert_official):
    arrays = committed("embed")
    assert_official(fourier_features(arrays["fourier_in"], (6, 7)), arrays, "{}/fourier_out")


@pytest.mark.parametrize("kind", ["fixed", "learnable_scalar"])
def test_gamma_and_its_derivative(committed, assert_official, official_schedule, kind):
    arrays = committed("gamma")
    schedule, params = official_schedule(kind)
    gamma, slope = jax.jit(lambda t: gamma_and_derivative(schedule, params, t))(arrays["t"])
    assert_official(gamma, arrays, f"{kind}/{{}}/gamma")
    assert_official(slope, arrays, f"{kind}/{{}}/dgamma_dt")
    for end, value in enumerate(endpoints(schedule, params)):
        assert_official(value, arrays, f"{kind}/{{}}/gamma_at_python_{end}")


def test_encoding(committed, assert_official):
    arrays = committed("encdec")
    assert_official(bin_centres(arrays["all_x"], LEVELS), arrays, "{}/all_x_encoded", rel=1e-7)
    assert_official(bin_centres(arrays["x"], LEVELS), arrays, "{}/encode_x", rel=1e-7)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_log_probability_of_every_code(committed, case):
    """The first row of z_0 under all 256 codes, up to codes 10^6 nats away."""
    arrays = committed("encdec")
    exact = arrays[f"f64/decode_g0shape1_{case}"][0, 0]  # [W, C, 256]
    z_0 = jnp.broadcast_to(arrays[f"z_{case}"][:1, :1, :, :, None], (1, 1, *exact.shape))
    codes = jnp.broadcast_to(jnp.arange(LEVELS), z_0.shape)
    ours = log_prob(codes, z_0, jnp.float32(arrays["g0s"][case]), LEVELS)
    # One rounding of z_0 - x_k, relative to the largest exponent, is what float32 allows.
    np.testing.assert_allclose(np.asarray(ours)[0, 0], exact, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_log_probability_of_an_image(committed, assert_official, case):
    arrays = committed("encdec")
    gamma_0 = jnp.float32(arrays["g0s"][case])
    ours = log_prob(arrays["x"], arrays[f"z_{case}"], gamma_0, LEVELS).sum((1, 2, 3))
    assert_official(ours, arrays, f"{{}}/logprob_{case}")
