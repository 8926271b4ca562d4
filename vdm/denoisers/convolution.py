"""The 3x3 convolution, in the form that is fastest where it runs.

On an accelerator that is XLA's own. On a CPU, where matrix products are what XLA computes at the
machine's speed, a convolution of many channels takes Winograd's algorithm F(2x2, 3x3) (Lavin & Gray
2016): in tiles of 2x2 outputs,

    Y = A^T [(G g G^T) (.) (B^T d B)] A,

16 products of matrices with 1/2.25 of the multiplications, and no loss of digits worth the name: the
entries of A and B are 0 and +-1, those of G halves. The gradients of input and kernel take the same
form. Inside a loop it keeps its speed; XLA's own gradients take up to 45 times as long there.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Matrix = Sequence[Sequence[float]]
Grid = list[list[jax.Array]]

_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
_KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T
MIN_CHANNELS_OF_TILES = 64
"""Of input and output: with fewer, the transforms cost more than the products save."""


def conv3x3(
    channels: int,
    dtype: Any,
    zero: bool = False,
    train: bool = False,
    in_loop: bool = False,
    name: str | None = None,
) -> nn.Conv:
    """A 3x3 convolution that keeps the image size, optionally starting at zero.

    `train`: it is differentiated, in reverse only. `in_loop`: within a loop; written out, tiles take
    long to compile and, for a reason we have not found, to train.
    """
    init = nn.initializers.zeros if zero else nn.linear.default_kernel_init

    def form(x, kernel, *_, **__):
        if not train:
            return conv_forward(x, kernel)
        return (conv_for_training if in_loop else _plain_conv)(x, kernel)

    return nn.Conv(
        channels,
        (3, 3),
        padding="SAME",
        dtype=dtype,
        kernel_init=init,
        conv_general_dilated=form if jax.default_backend() == "cpu" else None,
        name=name,
    )


def conv_forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B,H,W,C] and [3,3,C,C'] -> [B,H,W,C'], padded with zeros; by tiles where that is faster."""
    return conv_by_tiles(x, kernel) if _suits_tiles(x, kernel) else _plain_conv(x, kernel)


@jax.custom_vjp
def conv_for_training(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same, with gradients that are as fast in a loop as outside; no forward-mode derivative."""
    return conv_forward(x, kernel)


def _forward(x, kernel):
    return conv_forward(x, kernel), (x, kernel)


def _backward(residuals, dy):
    x, kernel = residuals
    by_input = conv_forward(dy, kernel[::-1, ::-1].swapaxes(2, 3))
    form = kernel_gradient_by_tiles if _suits_tiles(x, kernel) else kernel_gradient_by_products
    return by_input, form(x, dy).astype(kernel.dtype)


conv_for_training.defvjp(_forward, _backward)


@jax.jit  # a name of its own, by which operations are counted as those of a convolution
def conv_by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """By F(2x2, 3x3), for even H and W."""
    data, weights = _both_ways(_INPUT, _tiles(x)), _both_ways(_KERNEL, _entries(kernel))
    products = [
        [d @ w for d, w in zip(*pair, strict=True)] for pair in zip(data, weights, strict=True)
    ]
    return _join(_both_ways(_OUTPUT, products), (*x.shape[:3], kernel.shape[-1]))


def kernel_gradient_by_tiles(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The adjoint in the kernel, G^T [(B^T d B)^T (.) (A dy A^T)] G, [3,3,C,C']."""
    data, outer = _both_ways(_INPUT, _tiles(x)), _both_ways(_transpose(_OUTPUT), _quarters(dy))
    products = [
        [d.T @ o for d, o in zip(*pair, strict=True)] for pair in zip(data, outer, strict=True)
    ]
    return jnp.stack([jnp.stack(row) for row in _both_ways(_transpose(_KERNEL), products)])


def kernel_gradient_by_products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient in the kernel as nine matrix products, [3,3,C,C']."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = dy.reshape(-1, dy.shape[-1])

    def product(i, j):
        shifted = padded[:, i : i + height, j : j + width].reshape(-1, x.shape[-1])
        return jnp.matmul(shifted.T, rows, preferred_element_type=jnp.float32)

    return jnp.stack([jnp.stack([product(i, j) for j in range(3)]) for i in range(3)])


def _suits_tiles(x: jax.Array, kernel: jax.Array) -> bool:
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    return even and x.dtype == jnp.float32 and min(kernel.shape[2:]) >= MIN_CHANNELS_OF_TILES


def _plain_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _tiles(x: jax.Array) -> Grid:
    """Entry (i, j) of every 4x4 tile, two pixels apart, [B H/2 W/2, C]."""
    batch, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = height // 2, width // 2
    pairs = padded.reshape(batch, rows + 1, 2, columns + 1, 2, channels)

    def entry(i, j):
        down, across = i // 2, j // 2
        part = pairs[:, down : down + rows, i % 2, across : across + columns, j % 2]
        return part.reshape(-1, channels)

    return [[entry(i, j) for j in range(4)] for i in range(4)]


def _quarters(y: jax.Array) -> Grid:
    """Entry (i, j) of every 2x2 output, [B H/2 W/2, C']."""
    batch, height, width, channels = y.shape
    pairs = y.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return [[pairs[:, :, i, :, j].reshape(-1, channels) for j in range(2)] for i in range(2)]


def _join(quarters: Grid, shape: tuple[int, ...]) -> jax.Array:
    """What `_quarters` takes apart."""
    batch, height, width, channels = shape
    split = (batch, height // 2, width // 2, channels)
    rows = [jnp.stack([part.reshape(split) for part in row], axis=3) for row in quarters]
    return jnp.stack(rows, axis=2).reshape(shape)


def _entries(kernel: jax.Array) -> Grid:
    return [[kernel[i, j] for j in range(3)] for i in range(3)]


def _both_ways(matrix: Matrix, grid: Grid) -> Grid:
    """M X M^T of a grid X of arrays."""
    return _transpose(_from_left(matrix, _transpose(_from_left(matrix, grid))))


def _from_left(matrix: Matrix, grid: Grid) -> Grid:
    return [[_combine(row, column) for column in zip(*grid, strict=True)] for row in matrix]


def _combine(factors: Sequence[float], arrays: Sequence[jax.Array]) -> jax.Array:
    terms = [a if f == 1 else f * a for f, a in zip(factors, arrays, strict=True) if f]
    return sum(terms[1:], start=terms[0])


def _transpose(grid: Any) -> Any:
    return [list(column) for column in zip(*grid, strict=True)]
