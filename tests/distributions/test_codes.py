"""The decoder against exact anchors, float64 softmax over all levels, quadrature and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vdm.distributions import codes as decoder

LN2 = np.log(2.0)
log_prob = jax.jit(decoder.log_prob, static_argnums=3)
expected_surprise = jax.jit(decoder.expected_surprise, static_argnums=1)
table_row = jax.jit(decoder.table_row, static_argnums=1)
bin_centres = jax.jit(decoder.bin_centres, static_argnums=1)
nearest_codes = jax.jit(decoder.nearest_codes, static_argnums=1)


def centres(num_levels):
    return (2.0 * np.arange(num_levels) + 1.0) / num_levels - 1.0


def pixels(values):
    """Return values of any shape as images of one pixel, in JAX's precision."""
    values = np.asarray(values)
    return values.astype(jax.dtypes.canonicalize_dtype(values.dtype)).reshape(-1, 1, 1, 1)


def brute_log_prob(codes, z, gamma, num_levels):
    """log softmax of -(z - x_k)^2/(2 exp(gamma)) at `codes`, over every level, in float64."""
    codes, z, gamma = np.broadcast_arrays(codes, np.asarray(z, np.float64), np.float64(gamma))
    logits = -np.square(z[..., None] - centres(num_levels)) / (2 * np.exp(gamma[..., None]))
    return np.take_along_axis(logits, codes[..., None], -1)[..., 0] - logsumexp(logits, axis=-1)


def brute_surprise(code, gamma, num_levels):
    """E[-log p(code|z_0)] by the trapezoidal rule on +-10 standard deviations, in float64."""
    eps = np.linspace(-10, 10, 801)
    z = centres(num_levels)[code] + np.exp(gamma / 2) * eps
    return -np.average(brute_log_prob(code, z, gamma, num_levels), weights=np.exp(-(eps**2) / 2))


def surprise(codes, gamma, num_levels):
    """`expected_surprise` of `codes` in bits."""
    table = expected_surprise(pixels(np.float32(gamma)), num_levels)
    rows = table_row(pixels(codes), num_levels).reshape(np.shape(codes))
    return np.asarray(table)[np.asarray(rows)] / LN2


ANCHORS = {
    -14.0: 0.000079,
    -13.5: 0.003545,
    -13.3: 0.010453,
    -13.0: 0.037703,
    -12.0: 0.418292,
    -11.0: 1.112302,
    -10.0: 1.833620,
    -8.0: 3.276,
}


@pytest.mark.parametrize("gamma_0", ANCHORS)
def test_anchors_of_an_interior_code_at_256_levels(gamma_0):
    values = surprise(np.arange(20, 236), gamma_0, 256)
    np.testing.assert_allclose(values, ANCHORS[gamma_0], atol=5e-4 if gamma_0 == -8 else 6e-7)


@pytest.mark.parametrize("gamma_0", [-13.5, -13.3, -13.0, -12.0])
def test_edge_codes_cost_half_of_an_interior_code(gamma_0):
    """They have one neighbour instead of two."""
    np.testing.assert_allclose(surprise([0, 255], gamma_0, 256), ANCHORS[gamma_0] / 2, rtol=2e-4)


def test_other_levels_are_as_sharp_at_their_default_gamma_0():
    defaults = {256: -13.3, 17: -7.88, 2: -13.3 + 2 * np.log(128), 65_536: -24.0}
    for num_levels, expected in defaults.items():
        assert decoder.default_gamma_0(num_levels) == pytest.approx(expected, abs=5e-3)
    assert surprise(8, decoder.default_gamma_0(17), 17) == pytest.approx(ANCHORS[-13.3], rel=1e-4)


def test_anchors_of_the_digits():
    codes = pytest.importorskip("sklearn.datasets").load_digits().images.astype(np.int32)
    assert np.isin(codes, [0, 16]).mean() == pytest.approx(0.58, abs=5e-3)
    assert surprise(8, -8.0, 17) == pytest.approx(0.0055, abs=5e-5)
    assert surprise(codes, -8.0, 17).mean() == pytest.approx(0.0039, abs=5e-5)


def make_case(num_levels, gamma, num_pixels=400):
    """(codes, z_0/alpha_0): half of them likely draws, half of them anywhere, edges included."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, num_levels, (num_pixels, 1, 1, 1))
    codes[:4], codes[4:8] = 0, num_levels - 1
    z = centres(num_levels)[codes] + np.exp(gamma / 2) * rng.standard_normal(codes.shape)
    z[::2] = rng.uniform(-1.6, 1.6, z[::2].shape)
    return codes.astype(np.int32), z.astype(np.float32)


def noise_in_bins(bins, num_levels):
    """The gamma_0 at which the standard deviation of z_0/alpha_0 is so many bins."""
    return np.float32(2 * np.log(bins * 2 / num_levels))


@pytest.mark.parametrize("bins", [0.02, 0.17, 0.45, 0.55, 3.0])
@pytest.mark.parametrize("num_levels", [2, 3, 7, 8, 17, 256, 65_536])
def test_log_prob_is_a_softmax_over_all_levels(num_levels, bins):
    gamma = noise_in_bins(bins, num_levels)
    codes, z = make_case(num_levels, gamma, 12 if num_levels > 1000 else 400)
    actual = log_prob(jnp.asarray(codes), z, pixels(gamma), num_levels)
    # z - x_v is off by up to 6e-8 L/2 bins, times j/bins^2; nothing where 65,536 bins are narrow.
    atol = 2e-6 + (0.0 if num_levels > 1000 else 4e-8 * num_levels / bins**2)
    expected = brute_log_prob(codes, z, gamma, num_levels)
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def test_the_window_agrees_with_all_levels_where_they_meet():
    """At noise of half a bin; one wide gamma in the batch sends all of it over all levels."""
    offsets = np.linspace(-4.5, 4.5, 37).reshape(37, 1, 1) * 2 / 256
    codes = np.broadcast_to(np.array([0, 1, 5, 100, 254, 255], np.int32), (3, 37, 1, 6))
    z = (centres(256)[codes] + offsets).astype(np.float32)
    for bins in ([0.4999] * 3, [0.5001] * 3, [0.75] * 3, [0.4999, 0.5001, 10.0]):
        gamma = noise_in_bins(np.array(bins), 256).reshape(3, 1, 1, 1)
        actual = log_prob(jnp.asarray(codes), z, jnp.asarray(gamma), 256)
        expected = brute_log_prob(codes, z, gamma, 256)
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=2e-6)


def test_gamma_may_differ_between_pixels():
    codes, z = make_case(17, -6.0)
    gamma = np.random.default_rng(1).uniform(-7, 0, codes.shape).astype(np.float32)
    actual = log_prob(jnp.asarray(codes), z, jnp.asarray(gamma), 17)
    np.testing.assert_allclose(actual, brute_log_prob(codes, z, gamma, 17), rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("num_levels", [7, 17, 256])
@pytest.mark.parametrize("bins", [0.2, 1.5])
def test_gradients_of_log_prob_agree_with_finite_differences(num_levels, bins):
    gamma, h = noise_in_bins(bins, num_levels), 1e-5
    codes, z = make_case(num_levels, gamma)
    total = lambda z, g: log_prob(jnp.asarray(codes), z, g, num_levels).sum()  # noqa: E731
    by_z, by_gamma = jax.jit(jax.grad(total, (0, 1)))(z, np.full(codes.shape, gamma, np.float32))
    z, gamma = z.astype(np.float64), np.float64(gamma)
    f64 = lambda dz, dg: brute_log_prob(codes, z + dz, gamma + dg, num_levels)  # noqa: E731
    step = h * np.exp(gamma / 2)
    slopes_by_z = (f64(step, 0.0) - f64(-step, 0.0)) / (2 * step)
    slopes_by_gamma = (f64(0.0, h) - f64(0.0, -h)) / (2 * h)
    for actual, expected in [(by_z, slopes_by_z), (by_gamma, slopes_by_gamma)]:
        atol = 1e-4 * np.abs(expected).max()  # where the softmax cancels
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=atol)


def test_far_outliers_stay_finite():
    z, codes = pixels([-80.0, -1.5, 1.5, 80.0]), pixels([255, 255, 0, 0])
    for gamma in (-24.0, -13.3, 24.0):
        value, vjp = jax.vjp(lambda z, g: log_prob(codes, z, g, 256), z, pixels(gamma))
        np.testing.assert_allclose(value, brute_log_prob(codes, z, gamma, 256), rtol=1e-5)
        assert all(np.isfinite(g).all() for g in vjp(jnp.ones_like(value)))


QUADRATURE = [(2, -3.6), (2, 3.0), (7, -4.0), (17, -7.88), (17, -2.0), (256, -13.3)]
QUADRATURE += [(256, -11.0905), (256, -11.0899), (256, -5.0), (4096, -18.85)]
QUADRATURE += [pytest.param(4096, None, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("num_levels", "gamma"), QUADRATURE)
def test_expected_surprise_is_the_integral(num_levels, gamma):
    """On both sides of the switch at -11.09, and where 4096 levels share 1025 rows."""
    gamma = np.float32(decoder.max_gamma_0(num_levels) if gamma is None else gamma)
    chosen = np.array([0, 1, 2, 7, 8, 9, 127, 128, 511, 512, 513, 2048, num_levels // 2])
    chosen = np.unique(chosen[chosen < num_levels])
    codes = np.concatenate([chosen, num_levels - 1 - chosen])
    expected = [brute_surprise(code, np.float64(gamma), num_levels) / LN2 for code in chosen]
    actual = surprise(codes, gamma, num_levels)
    np.testing.assert_allclose(actual, expected * 2, rtol=1e-5, atol=1e-7)  # mirrored codes


def test_expected_surprise_is_the_mean_over_samples():
    """Per code, within four standard errors of 100,000 draws."""
    rng, num_levels, gamma = np.random.default_rng(0), 7, -2.5
    actual = surprise(np.arange(7), gamma, num_levels)
    for code in range(7):
        z = centres(num_levels)[code] + np.exp(gamma / 2) * rng.standard_normal(100_000)
        sample = -brute_log_prob(code, z, gamma, num_levels) / LN2
        assert abs(actual[code] - sample.mean()) < 4 * sample.std() / np.sqrt(100_000)


@pytest.mark.parametrize(("num_levels", "gamma"), [(7, -4.0), (256, -13.3), (256, -9.0)])
def test_gradient_of_expected_surprise_agrees_with_finite_differences(num_levels, gamma):
    gamma, h = np.float64(np.float32(gamma)), 1e-4
    codes = np.array([0, 1, num_levels // 2, num_levels - 1])
    read = lambda g: expected_surprise(g.reshape(1, 1, 1, 1), num_levels)[codes]  # noqa: E731
    above, below = ([brute_surprise(c, gamma + s, num_levels) for c in codes] for s in (h, -h))
    expected = (np.array(above) - np.array(below)) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.jacrev(read))(np.float32(gamma)), expected, rtol=2e-4)


def test_one_table_row_per_distance_to_the_edge_and_one_gamma_0():
    codes = np.array([0, 511, 512, 40_000, 65_023, 65_024, 65_535], np.uint16)
    rows = table_row(pixels(codes), 65_536)
    assert rows.ravel().tolist() == [0, 511, 512, 512, 512, 513, 1024]
    for num_levels, dtype in [(2, np.uint8), (17, np.uint8), (256, np.uint8), (1025, np.int32)]:
        codes = pixels(np.arange(num_levels).astype(dtype))
        np.testing.assert_array_equal(table_row(codes, num_levels), codes)
    with pytest.raises(ValueError, match=r"gamma_0 has shape \(2, 1, 1, 1\)"):
        decoder.expected_surprise(jnp.zeros((2, 1, 1, 1)), 17)


@pytest.mark.parametrize("num_levels", [2, 3, 7, 17, 255, 256, 1000, 4095, 65_535, 65_536])
def test_codes_survive_the_round_trip(num_levels):
    """Anywhere within 0.49 bins of the centre, and whatever the dtype of the codes."""
    codes = pixels(np.arange(num_levels))
    x = np.asarray(bin_centres(codes, num_levels))
    np.testing.assert_allclose(x.ravel(), centres(num_levels), atol=1.2e-7)
    assert x.dtype == np.float32
    for offset in (-0.49, 0.0, 0.49):
        near = x + np.float32(offset * 2 / num_levels)
        np.testing.assert_array_equal(nearest_codes(near, num_levels), codes)
    stored = codes.astype(np.uint8 if num_levels <= 256 else np.uint16)
    np.testing.assert_array_equal(bin_centres(stored, num_levels), x)
    outside = nearest_codes(pixels([-1.5, 7.0]), num_levels)
    assert outside.ravel().tolist() == [0, num_levels - 1]


def sizes(jaxpr):
    """Yield the sizes of all arrays that a program computes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def test_no_array_has_an_axis_over_the_levels():
    codes = jnp.zeros((2, 4, 4, 3), jnp.int32)
    total = lambda z, g: decoder.log_prob(codes, z, g, 256).sum()  # noqa: E731
    naive = lambda z, g: ((z / g)[..., None] * jnp.ones((1, 1, 1, 1, 256))).sum()  # noqa: E731
    for function, largest in [(total, codes.size), (naive, codes.size * 256)]:
        program = jax.make_jaxpr(jax.value_and_grad(function, (0, 1)))(codes + 0.5, codes - 3.0)
        assert max(sizes(program)) == largest


def test_agrees_with_the_official_code(shared_dir):
    reference = np.load(shared_dir / "reference" / "encdec.npz")
    encoded = bin_centres(pixels(reference["all_x"]), 256)
    np.testing.assert_array_equal(encoded.ravel(), reference["f32/all_x_encoded"])
    x = jnp.asarray(reference["x"])
    for i, gamma in enumerate(reference["g0s"]):
        z, gamma = jnp.asarray(reference[f"z_{i}"]), pixels(gamma)
        total = log_prob(x, z, gamma, 256).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(total, reference[f"f64/logprob_{i}"], rtol=1e-5, atol=1e-6)
        codes = jnp.broadcast_to(pixels(jnp.arange(256)), (256, 4, 4, 3))
        for one, expected in zip(z, reference[f"f64/decode_{i}"], strict=True):
            one = jnp.broadcast_to(one[None], codes.shape)
            actual = jnp.moveaxis(log_prob(codes, one, gamma, 256), 0, -1)
            np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("ours", ["sampled", "expected"])
def test_memory_beside_a_softmax_over_all_levels(ours):
    """Value and gradient: a twentieth at most of the memory of a softmax over all levels."""
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)))
    z = decoder.bin_centres(codes, 256)

    def over_all_levels(z, gamma):
        x = jnp.asarray(centres(256), jnp.float32).reshape(1, 1, 1, 1, 256)
        logits = -0.5 * jnp.exp(-gamma) * jnp.square(z[..., None] - x)
        chosen = jax.nn.one_hot(codes, 256) * jax.nn.log_softmax(logits)
        return -jnp.sum(chosen)

    def by_draw(z, gamma):
        return -jnp.sum(decoder.log_prob(codes, z, gamma, 256))

    def by_table(z, gamma):
        return jnp.sum(decoder.expected_surprise(gamma, 256)[decoder.table_row(codes, 256)])

    def temporaries(function):
        compiled = jax.jit(jax.value_and_grad(function, argnums=(0, 1))).lower(z, -13.3).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    form = {"sampled": by_draw, "expected": by_table}[ours]
    assert temporaries(form) * 20 <= temporaries(over_all_levels)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
def test_the_table_of_all_codes_is_a_distribution_and_agrees_with_each_code(num_levels):
    gamma = noise_in_bins(0.7, num_levels)
    z = jnp.linspace(-1.2, 1.2, 24).reshape(2, 3, 4, 1)
    gammas = jnp.full((1, 1, 1, 1), gamma)
    table = decoder.log_probs(z, gammas, num_levels)
    assert table.shape == (*z.shape, num_levels) and table.dtype == jnp.float32
    table = np.asarray(table)
    np.testing.assert_allclose(logsumexp(table, axis=-1), 0.0, atol=2e-6)
    for code in range(0, num_levels, max(1, num_levels // 16)):
        one = decoder.log_prob(jnp.full(z.shape, code), z, gammas, num_levels)
        # Surprises of far codes are thousands of nats, whose float32 has 1e-4.
        np.testing.assert_allclose(table[..., code], one, rtol=1e-5, atol=1e-5)
