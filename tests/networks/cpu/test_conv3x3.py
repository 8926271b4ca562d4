"""The forms of the 3x3 convolution: each against sums in float64, gradients against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from vdm.networks.cpu import conv3x3, winograd

SIZES = [(2, 6, 4, 3, 5), (1, 8, 8, 64, 64)]


def arrays(batch, height, width, before, after, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((batch, height, width, before))
    return (
        x,
        draw.standard_normal((3, 3, before, after)),
        draw.standard_normal((batch, height, width, after)),
    )


def expected_convolution(x, kernel):
    """Sums of SciPy's correlations of single channels, float64."""
    found = np.zeros((*x.shape[:3], kernel.shape[3]))
    for n, i, o in np.ndindex(len(x), *kernel.shape[2:]):
        found[n, ..., o] += signal.correlate2d(x[n, ..., i], kernel[..., i, o], "same")
    return found


def expected_kernel_gradient(x, dy):
    """d <dy, y> / d kernel[a, b, i, o] = sum x[h + a - 1, w + b - 1, i] dy[h, w, o], float64."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    parts = [padded[:, a : a + height, b : b + width] for a in range(3) for b in range(3)]
    return np.stack([np.einsum("nhwi,nhwo->io", p, dy) for p in parts]).reshape(
        3, 3, x.shape[3], dy.shape[3]
    )


def single(*values):
    return [jnp.asarray(v, jnp.float32) for v in values]


def assert_close(found, expected):
    """Assert equality up to float32's rounding of the largest entry, as single ones may cancel."""
    error = np.abs(np.asarray(found, np.float64) - expected).max()
    assert error < 3e-6 * np.abs(expected).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [winograd.conv_by_tiles, conv3x3.conv_forward])
def test_forward(form, size):
    x, kernel, _ = arrays(*size)
    assert_close(jax.jit(form)(*single(x, kernel)), expected_convolution(x, kernel))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "form", [winograd.kernel_gradient_by_tiles, conv3x3.kernel_gradient_by_products]
)
def test_kernel_gradients(form, size):
    x, _, dy = arrays(*size)
    assert_close(jax.jit(form)(*single(x, dy)), expected_kernel_gradient(x, dy))


@pytest.mark.parametrize("size", [*SIZES, (2, 5, 4, 64, 64)])  # an odd height takes no tiles
def test_gradients_in_training(size):
    x, kernel, dy = arrays(*size)
    y, pull = jax.vjp(conv3x3.conv_for_training, *single(x, kernel))
    by_input, by_kernel = pull(*single(dy))
    assert_close(y, expected_convolution(x, kernel))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    assert_close(by_input, expected_convolution(dy, turned))
    assert_close(by_kernel, expected_kernel_gradient(x, dy))


def test_evaluation_has_derivatives_in_both_modes():
    """The ODE's exact trace takes them."""
    x, kernel, dy = single(*arrays(1, 4, 4, 64, 64))
    tangent = jax.jvp(lambda x: conv3x3.conv_forward(x, kernel), (x,), (2.0 * x,))[1]
    np.testing.assert_allclose(tangent, 2.0 * conv3x3.conv_forward(x, kernel), rtol=1e-4, atol=1e-4)
    y, pull = jax.vjp(lambda x: conv3x3.conv_forward(x, kernel), x)
    found, expected = jnp.vdot(pull(dy)[0], x), jnp.vdot(dy, y)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("num_channels", [8, 64])
def test_the_layer_is_flax_s_own(num_channels):
    """Parameters, bias and result of `flax.linen.Conv`, however it will be used."""
    x = single(arrays(2, 4, 6, num_channels, 1)[0])[0]
    plain = conv3x3.nn.Conv(num_channels, (3, 3), padding="SAME")
    params = plain.init(jax.random.key(0), x)
    params["params"]["bias"] = jnp.arange(num_channels, dtype=jnp.float32)
    for train in (False, True):
        for in_loop in (False, True):
            layer = conv3x3.conv3x3(num_channels, jnp.float32, train=train, in_loop=in_loop)
            assert jax.tree.structure(layer.init(jax.random.key(0), x)) == jax.tree.structure(
                params
            )
            np.testing.assert_allclose(
                layer.apply(params, x), plain.apply(params, x), rtol=1e-5, atol=1e-4
            )


ON_TWO_DEVICES = """
import re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from vdm.networks.cpu.conv3x3 import conv_for_training

draw = np.random.default_rng(0)
x, kernel, dy = (
    jnp.asarray(draw.standard_normal(shape), jnp.float32)
    for shape in ((4, 6, 4, 64), (3, 3, 64, 64), (4, 6, 4, 64))
)

def both(x, kernel, dy):
    y, pull = jax.vjp(conv_for_training, x, kernel)
    return y, *pull(dy)

def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

mesh = jax.make_mesh((2,), ("data",))
images, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
compiled = jax.jit(
    both, in_shardings=(images, whole, images), out_shardings=(images, images, whole)
).lower(x, kernel, dy).compile()
y, pull = jax.vjp(plain, x, kernel)
for found, expected in zip(compiled(x, kernel, dy), (y, *pull(dy)), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
in_loops = re.findall(r"^%?[\\w.]*(?:body|region)[^{]*{.*?^}", compiled.as_text(), re.M | re.S)
assert in_loops and not any("all-reduce(" in body for body in in_loops)
print(len(re.findall(r" all-(?:reduce|gather)(?:-start)?\\(", compiled.as_text())))
"""


@pytest.mark.slow
def test_two_devices_exchange_one_sum(fork_python):
    """The gradient of the kernel is summed over devices once; images stay where they are."""
    assert fork_python(ON_TWO_DEVICES, devices=2, timeout=200).stdout.split() == ["1"]
