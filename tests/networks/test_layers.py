"""Layers against Flax and against NumPy in float64; which groups let the conditioning through."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm.errors import ConfigError
from vdm.networks import make_denoiser
from vdm.networks.attention import (
    AttentionBlock,
    attend,
    attend_by_image,
    attend_fused,
)
from vdm.networks.base import check_groups, resolve_unroll
from vdm.networks.layers import (
    Dropout,
    GroupNorm,
    ResidualBlock,
    default_fourier_exponents,
    default_num_groups,
    fourier_features,
    time_embedding,
)

RNG = np.random.default_rng(0)


def random(*shape, scale=1.0):
    return jnp.asarray(scale * RNG.standard_normal(shape), jnp.float32)


def random_params(module, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(lambda leaf: random(*leaf.shape, scale=0.3), shapes)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (12, 3), (5, 1)])
@pytest.mark.parametrize(("mean", "spread"), [(3.0, 2.0), (0.0, 1e-3)])
def test_group_norm_is_that_of_flax(channels, groups, mean, spread):
    """Also where the variance is as small as the 1e-6 added to it."""
    x = mean + spread * random(2, 5, 3, channels)
    params = {"params": {"scale": random(channels), "bias": random(channels)}}
    modules = GroupNorm(groups), nn.GroupNorm(groups, epsilon=1e-6)
    ours, theirs = (jax.jit(module.apply)(params, x) for module in modules)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropout_is_that_of_flax(rate, deterministic):
    """Number for number, with its gradient."""
    x, rngs = random(3, 4, 5), {"dropout": jax.random.key(2)}

    def both(module):
        return jax.value_and_grad(lambda x: jnp.sum(module.apply({}, x, rngs=rngs) ** 2))(x)

    found = both(Dropout(rate, deterministic))
    expected = both(nn.Dropout(rate, deterministic=deterministic))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_in_a_block_draws_what_flax_drew(monkeypatch):
    """The name of a module is part of its stream: runs resumed from before keep their masks."""
    block = ResidualBlock(8, 2, 0.4, deterministic=False, dtype=jnp.float32)
    x, cond, rngs = random(2, 4, 3, 8), random(2, 16), {"dropout": jax.random.key(2)}
    params = {"params": random_params(block.clone(deterministic=True), x, cond)}
    found = block.apply(params, x, cond, rngs=rngs)
    flax = lambda rate, deterministic: nn.Dropout(rate, deterministic=deterministic)  # noqa: E731
    monkeypatch.setattr("vdm.networks.layers.Dropout", flax)
    np.testing.assert_array_equal(found, block.apply(params, x, cond, rngs=rngs))
    assert np.abs(found - block.clone(deterministic=True).apply(params, x, cond)).max() > 0.1


def test_group_norm_keeps_a_variance_beside_a_large_mean():
    """At a mean of 4,000 and a spread of 1, E[x^2] - E[x]^2 is off by its own size in float32."""
    x = random(2, 8, 8, 4) + jnp.asarray([[[[4000.0, -3000.0, 0.0, 50.0]]]])
    params = {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    exact = np.asarray(x, np.float64)
    exact = exact - exact.mean((1, 2), keepdims=True)
    exact /= np.sqrt(exact.var((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(GroupNorm(4).apply(params, x), exact, atol=2e-3)


def test_group_norm_of_bfloat16_takes_its_statistics_in_float32():
    """1024 positions about 1: sums in bfloat16 would be off by far more than its rounding."""
    x = (1.0 + 0.1 * random(2, 32, 32, 8)).astype(jnp.bfloat16)
    params = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    ours = GroupNorm(2).apply(params, x)
    assert ours.dtype == jnp.bfloat16
    grouped = np.asarray(x, np.float64).reshape(2, 32, 32, 2, 4)
    centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
    exact = centred / np.sqrt(centred.var((1, 2, 4), keepdims=True) + 1e-6)
    ours = np.asarray(ours, np.float64).reshape(grouped.shape)
    np.testing.assert_allclose(ours, exact, rtol=0.01, atol=0.01)


def test_attention_is_a_softmax_over_all_positions():
    x = random(2, 3, 5, 8)
    block = AttentionBlock(num_groups=2, dtype=jnp.float32)
    params = random_params(block, x)
    ours = block.apply({"params": params}, x)

    norm = nn.GroupNorm(2, epsilon=1e-6).apply({"params": params["norm"]}, x)
    h = np.asarray(norm, np.float64).reshape(2, 15, 8)
    f64 = lambda x: np.asarray(x, np.float64)  # noqa: E731
    dense = lambda n, h: h @ f64(params[n]["kernel"]) + f64(params[n]["bias"])  # noqa: E731
    q, k, v = (dense(n, h) for n in ("q", "k", "v"))
    weights = np.exp(np.einsum("bqc,bkc->bqk", q, k) / np.sqrt(8))
    weights /= weights.sum(axis=-1, keepdims=True)
    exact = np.asarray(x) + dense("proj_out", weights @ v).reshape(x.shape)
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)


def test_time_embedding_follows_its_formula():
    """Geometric frequencies from 1 to 1e-4 of 1000 t, sines first; an odd width is padded by 0."""
    time = np.array([0.0, 0.25, 1.0], np.float32)
    frequencies = 1e-4 ** (np.arange(4) / 3)
    angle = 1000.0 * time[:, None] * frequencies
    exact = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    # float32 angles up to 1000 are known to 6e-5.
    np.testing.assert_allclose(time_embedding(time, 8), exact, atol=1e-4)
    np.testing.assert_allclose(time_embedding(time, 9)[:, :8], exact, atol=1e-4)
    np.testing.assert_array_equal(time_embedding(time, 9)[:, 8], 0.0)
    assert time_embedding(jnp.asarray(time, jnp.bfloat16), 8).dtype == jnp.float32


def test_fourier_features_follow_their_formula_in_float32():
    z = random(2, 3, 1, 2)
    angles = [2 * np.pi * 2**n * np.asarray(z, np.float64)[..., c] for c in (0, 1) for n in (3, 5)]
    exact = np.stack([np.sin(a) for a in angles] + [np.cos(a) for a in angles], axis=-1)
    np.testing.assert_allclose(fourier_features(z, (3, 5)), exact, atol=1e-4)
    assert fourier_features(z.astype(jnp.bfloat16), (3, 5)).dtype == jnp.float32


def test_the_highest_fourier_feature_turns_once_in_two_bins():
    """So that neighbouring codes, 2/L apart, are half a turn apart: for L a power of 2."""
    for num_levels in (2, 16, 256, 65536):
        low, high = default_fourier_exponents(num_levels)
        assert 2.0**high * (2 / num_levels) == 1.0 and low == high - 1


def test_default_groups_leave_four_channels_and_are_as_many_as_possible():
    for channels in range(8, 257):
        groups = default_num_groups(channels)
        assert channels % groups == 0 and channels // groups >= 4 and groups <= 32
        assert check_groups("denoiser.unet", groups, channels) == groups
        larger = range(groups + 1, 33)
        assert not [g for g in larger if channels % g == 0 and channels // g >= 4]
    assert default_num_groups(128) == default_num_groups(256) == 32


def response_to_conditioning(channels: int, groups: int) -> float:
    block = ResidualBlock(channels, groups, 0.0, True, jnp.float32)
    x, cond = random(1, 2, 3, channels), random(2, 6)
    params = {"params": random_params(block, x, cond[:1])}
    outputs = [jax.jit(block.apply)(params, x, cond[i : i + 1]) for i in (0, 1)]
    return float(jnp.abs(outputs[0] - outputs[1]).max() / jnp.abs(outputs[0]).max())


@pytest.mark.parametrize("channels", [8, 9, 11, 32, 100, 256])
def test_conditioning_survives_the_default_groups(channels):
    assert response_to_conditioning(channels, default_num_groups(channels)) > 0.01


def test_conditioning_would_not_survive_one_channel_a_group():
    """The trap that `check_groups` guards against is real (facts: 3e-15 in float64)."""
    assert response_to_conditioning(8, 8) < 1e-4


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (32, 5), (32, 0), (32, -1), (1, None)])
def test_groups_that_remove_the_conditioning_are_refused(channels, groups):
    options = {"channels": channels, "num_blocks": 1, "num_groups": groups}
    with pytest.raises(ConfigError, match=r"denoiser\.unet\.num_groups=.*channels=") as error:
        make_denoiser("unet", 256, options)
    assert str(groups if groups is not None else 1) in str(error.value)


def test_shallow_networks_are_written_out_on_a_cpu_unless_told():
    assert jax.default_backend() == "cpu"
    assert [resolve_unroll(None, n) for n in (1, 3, 4)] == [True, True, False]
    assert [resolve_unroll(u, 2) for u in (None, True, False)] == [True, True, False]
    assert [resolve_unroll(u, 32) for u in (None, True, False)] == [False, True, False]


def test_an_unknown_denoiser_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match=r"denoiser\.name='unett': .* choose one of mlp, .*unet"):
        make_denoiser("unett", 256, {})


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fused_attention_is_the_plain_one(dtype):
    draw = np.random.default_rng(0)
    q, k, v = (jnp.asarray(draw.standard_normal((2, 12, 8)), dtype) for _ in range(3))
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    found, expected = attend_fused(q, k, v, "xla"), attend(q, k, v)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(
        found.astype(jnp.float32), expected.astype(jnp.float32), rtol=tolerance, atol=tolerance
    )


def test_attention_by_image_is_that_of_all_and_of_the_definition():
    """Values against NumPy in float64, gradients against those of the plain form."""
    draw = np.random.default_rng(0)
    q, k, v, weight = (draw.standard_normal((3, 12, 8)) for _ in range(4))
    logits = np.einsum("bqc,bkc->bqk", q, k) / np.sqrt(8)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    arrays = [jnp.asarray(a, jnp.float32) for a in (q, k, v)]
    np.testing.assert_allclose(attend_by_image(*arrays), shares @ v, rtol=1e-5, atol=1e-5)

    def gradients(form):
        loss = lambda *qkv: jnp.sum(form(*qkv) * jnp.asarray(weight, jnp.float32))  # noqa: E731
        return jax.grad(loss, argnums=(0, 1, 2))(*arrays)

    for found, expected in zip(gradients(attend_by_image), gradients(attend), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_large_images_are_attended_to_one_by_one(monkeypatch):
    """The same output with the loop as without; only where one CPU has all images."""
    layer, x = AttentionBlock(2, jnp.float32), random(2, 4, 4, 8)
    params = {"params": random_params(layer, x)}
    jaxpr = lambda: str(jax.make_jaxpr(lambda x: layer.apply(params, x))(x))  # noqa: E731
    whole, plain = layer.apply(params, x), jaxpr()
    monkeypatch.setattr("vdm.networks.attention.MIN_POSITIONS_BY_IMAGE", 16)
    np.testing.assert_allclose(layer.apply(params, x), whole, rtol=1e-5, atol=1e-6)
    assert "scan" in jaxpr() and "scan" not in plain
    assert "scan" not in str(jax.make_jaxpr(layer.clone(by_image=False).apply)(params, x))
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert "scan" not in jaxpr()
