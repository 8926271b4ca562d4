"""The 3x3 convolution by Winograd's algorithm F(2x2, 3x3), in 1/2.25 of the multiplications.

In tiles of 2x2 outputs Y, from 4x4 inputs d and a kernel g (Lavin & Gray 2016),

    Y = A^T [(G g G^T) (.) (B^T d B)] A,

where (.) is 16 products of matrices [B H/2 W/2, C] and [C, C']. No digits worth the name are lost: the
entries of A and B are 0 and +-1, those of G halves. The products run in loops: written out, each
brings kernels of its own, which take three times as long to compile.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))  # B^T
_KERNEL = np.array([(1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)], np.float32)  # G
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, 1))  # A^T
_KERNEL_BOTH_WAYS = np.kron(_KERNEL, _KERNEL)
"""[16, 9]: G g G^T of the nine entries of g."""


class _Line(NamedTuple):
    """A row of B^T or A, and where in pairs of pixels it looks: d[2 p + odd] + sign d[2 p' + odd']."""

    pair: int | jax.Array
    odd: int | jax.Array
    other_pair: int | jax.Array
    other_odd: int | jax.Array
    sign: float | jax.Array


def _line(row: Sequence[int]) -> _Line:
    """Of a row with an entry 1 and at most one other; where there is none, the sign is 0."""
    first, second = sorted(range(len(row)), key=lambda i: (row[i] == 0, -row[i]))[:2]
    return _Line(*divmod(first, 2), *divmod(second, 2), float(row[second]))


_LINES = [_line(row) for row in _INPUT]
_OUTPUT_LINES = [_line(row) for row in zip(*_OUTPUT, strict=True)]


@jax.jit  # a name of its own, by which operations are counted as those of a convolution
def conv_by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """[B,H,W,C] and [3,3,C,C'] -> [B,H,W,C'], padded with zeros, for even H and W."""
    pairs, tiles, entries = _padded_pairs(x), _num_tiles(x), kernel.reshape(9, -1)
    weights = (_KERNEL_BOTH_WAYS @ entries).reshape(4, 4, *kernel.shape[2:])

    def one_row(_, line_and_weights):
        down, row = line_and_weights
        products = [_transformed(pairs, tiles, down, _LINES[j]) @ row[j] for j in range(4)]
        return None, _from_products(products)

    _, halves = jax.lax.scan(one_row, None, (_stacked(_LINES), weights))
    return _join([_from_products(half) for half in halves], (*x.shape[:3], kernel.shape[-1]))


@jax.jit
def kernel_gradient_by_tiles(x: jax.Array, dy: jax.Array) -> jax.Array:
    """The adjoint in the kernel, G^T [(B^T d B)^T (.) (A dy A^T)] G, [3,3,C,C']."""
    pairs, outputs, tiles = _padded_pairs(x), _pairs(dy), _num_tiles(x)

    def one_product(_, lines):
        (down, across), (down_outputs, across_outputs) = lines
        inputs = _transformed(pairs, tiles, down, across)
        return None, inputs.T @ _transformed(outputs, tiles, down_outputs, across_outputs)

    _, products = jax.lax.scan(one_product, None, (_both_ways(_LINES), _both_ways(_OUTPUT_LINES)))
    gradient = _KERNEL_BOTH_WAYS.T @ products.reshape(16, -1)
    return gradient.reshape(3, 3, *products.shape[1:])


def _both_ways(lines: Sequence[_Line]) -> tuple[_Line, _Line]:
    """Every pair of lines, down and across."""
    down, across = zip(*itertools.product(lines, lines), strict=True)
    return _stacked(down), _stacked(across)


def _stacked(lines: Sequence[_Line]) -> _Line:
    columns = zip(*lines, strict=True)
    kinds = (jnp.int32,) * 4 + (jnp.float32,)
    return _Line(*(jnp.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def _num_tiles(x: jax.Array) -> tuple[int, int]:
    return x.shape[1] // 2, x.shape[2] // 2


def _pairs(x: jax.Array) -> jax.Array:
    """Pairs of rows and of columns, [B, H/2, 2, W/2, 2, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _padded_pairs(x: jax.Array) -> jax.Array:
    """The same of the padded image, [B, H/2 + 1, 2, W/2 + 1, 2, C]."""
    return _pairs(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))


def _transformed(pairs: jax.Array, tiles: tuple[int, int], down: _Line, across: _Line) -> jax.Array:
    """One entry of B^T d B, or of A dy A^T, for every tile, [B H/2 W/2, C]."""
    batch, *_, channels = pairs.shape
    size = (batch, tiles[0], 1, tiles[1], 1, channels)

    def entry(pair, odd, column_pair, column_odd):
        start = (0, pair, odd, column_pair, column_odd, 0)
        return jax.lax.dynamic_slice(pairs, start, size, allow_negative_indices=False)

    def along(pair, odd):
        other = entry(pair, odd, across.other_pair, across.other_odd)
        return entry(pair, odd, across.pair, across.odd) + across.sign * other

    found = along(down.pair, down.odd) + down.sign * along(down.other_pair, down.other_odd)
    return found.reshape(-1, channels)


def _from_products(m: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """A^T m, for four arrays m; A^T is that of `_OUTPUT`."""
    return m[0] + m[1] + m[2], m[1] - m[2] + m[3]


def _join(columns: Sequence[Sequence[jax.Array]], shape: tuple[int, ...]) -> jax.Array:
    """Outputs [B,H,W,C'] from columns[j][i], the entry (i, j) of every 2x2 output."""
    batch, height, width, channels = shape
    split = (batch, height // 2, width // 2, channels)
    rows = [jnp.stack([c[i].reshape(split) for c in columns], axis=3) for i in range(2)]
    return jnp.stack(rows, axis=2).reshape(shape)
