"""3x3 convolution by Winograd's algorithm F(2x2, 3x3), in 1/2.25 of the multiplications.

A tile of 2x2 outputs Y follows from 4x4 inputs d and a kernel g (Lavin & Gray 2016, arXiv:1509.09308),

    Y = A^T [(G g G^T) (.) (B^T d B)] A,

where (.) is 16 products of matrices [B H/2 W/2, C] and [C, C']. Float32 accuracy is kept: the entries
of A and B are 0 and +-1, those of G multiples of 1/2. The products run in loops, because each product
that is written out compiles kernels of its own, in all for three times as long.
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
"""Matrix [16,9] that maps the nine entries of g to the 16 of G g G^T."""


class _Line(NamedTuple):
    """Row of B^T or A as a sum of two pixels of a tile, d[2 pair + odd] + sign d[2 pair' + odd'].

    Attributes:
      pair, odd: place of the first pixel, as a pair of pixels and a place within it.
      other_pair, other_odd: place of the second.
      sign: its factor, 0 for a row with one entry.
    """

    pair: int | jax.Array
    odd: int | jax.Array
    other_pair: int | jax.Array
    other_odd: int | jax.Array
    sign: float | jax.Array


def _line(row: Sequence[int]) -> _Line:
    """Convert a row with one entry 1 and at most one other to a `_Line`."""
    first, second = sorted(range(len(row)), key=lambda i: (row[i] == 0, -row[i]))[:2]
    return _Line(*divmod(first, 2), *divmod(second, 2), float(row[second]))


_LINES = [_line(row) for row in _INPUT]
_OUTPUT_LINES = [_line(row) for row in zip(*_OUTPUT, strict=True)]


@jax.jit  # under its name in a program the benchmark counts its operations
def conv_by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve x [B,H,W,C], padded with zeros, with a kernel [3,3,C,C'] -> [B,H,W,C']; H, W even."""
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
    """Return the gradient by the kernel, G^T [(B^T d B)^T (.) (A dy A^T)] G, [3,3,C,C']."""
    pairs, outputs, tiles = _padded_pairs(x), _pairs(dy), _num_tiles(x)

    def one_product(_, lines):
        (down, across), (down_outputs, across_outputs) = lines
        inputs = _transformed(pairs, tiles, down, across)
        return None, inputs.T @ _transformed(outputs, tiles, down_outputs, across_outputs)

    _, products = jax.lax.scan(one_product, None, (_both_ways(_LINES), _both_ways(_OUTPUT_LINES)))
    gradient = _KERNEL_BOTH_WAYS.T @ products.reshape(16, -1)
    return gradient.reshape(3, 3, *products.shape[1:])


def _both_ways(lines: Sequence[_Line]) -> tuple[_Line, _Line]:
    """Return every pair of lines, the one down and the one across, stacked for a loop."""
    down, across = zip(*itertools.product(lines, lines), strict=True)
    return _stacked(down), _stacked(across)


def _stacked(lines: Sequence[_Line]) -> _Line:
    columns = zip(*lines, strict=True)
    kinds = (jnp.int32,) * 4 + (jnp.float32,)
    return _Line(*(jnp.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def _num_tiles(x: jax.Array) -> tuple[int, int]:
    return x.shape[1] // 2, x.shape[2] // 2


def _pairs(x: jax.Array) -> jax.Array:
    """Group rows and columns into pairs, [B,H/2,2,W/2,2,C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _padded_pairs(x: jax.Array) -> jax.Array:
    """Pad an image by one pixel and group it into pairs, [B,H/2+1,2,W/2+1,2,C]."""
    return _pairs(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))


def _transformed(pairs: jax.Array, tiles: tuple[int, int], down: _Line, across: _Line) -> jax.Array:
    """Return one entry of B^T d B, or of A dy A^T, for every tile, [B H/2 W/2,C].

    Args:
      pairs: pixels in pairs, see `_pairs`.
      tiles: number of tiles down and across.
      down: row of the transform that is applied down.
      across: row of the transform that is applied across.
    """
    batch, *_, channels = pairs.shape
    size = (batch, tiles[0], 1, tiles[1], 1, channels)

    def entry(pair, odd, column_pair, column_odd):
        start = (0, pair, odd, column_pair, column_odd, 0)
        return jax.lax.dynamic_slice(pairs, start, size, allow_negative_indices=False)

    def along(pair, odd):
        other = entry(pair, odd, across.other_pair, across.other_odd)
        return entry(pair, odd, across.pair, across.odd) + across.sign * other

    entries = along(down.pair, down.odd) + down.sign * along(down.other_pair, down.other_odd)
    return entries.reshape(-1, channels)


def _from_products(m: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Apply A^T, which is `_OUTPUT`, to four arrays."""
    return m[0] + m[1] + m[2], m[1] - m[2] + m[3]


def _join(columns: Sequence[Sequence[jax.Array]], shape: tuple[int, ...]) -> jax.Array:
    """Join columns[j][i], the entry (i, j) of every 2x2 output, to outputs [B,H,W,C']."""
    batch, height, width, channels = shape
    split = (batch, height // 2, width // 2, channels)
    rows = [jnp.stack([c[i].reshape(split) for c in columns], axis=3) for i in range(2)]
    return jnp.stack(rows, axis=2).reshape(shape)
