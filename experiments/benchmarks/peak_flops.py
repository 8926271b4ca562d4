"""Measured peak arithmetic of one device: a matrix product and a 3x3 convolution, FLOP/s."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

_REPEATS = 5
"""Blocks of calls, of which the fastest counts."""


def matmul_flops_per_second(dtype: Any) -> float:
    """Return the FLOP/s of a square matrix product that is large enough to fill the device."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b))
    return 2 * size**3 / _best_seconds(product, a, a)


def convolution_flops_per_second(dtype: Any, batch: int, size: tuple[int, int], channels: int):
    """Return the FLOP/s of a 3x3 convolution [B,H,W,C] -> [B,H,W,C], the UNet's most frequent layer.

    Args:
      dtype: of images and kernel.
      batch: images per call, B.
      size: (H, W) in pixels.
      channels: C, of input and output.
    """
    x = jnp.ones((batch, *size, channels), dtype)
    kernel = jnp.ones((3, 3, channels, channels), dtype)
    convolve = jax.jit(
        lambda x, kernel: jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    # Two per multiplication with addition, nine entries of the kernel per input channel.
    flops = 2 * 9 * batch * size[0] * size[1] * channels**2
    return flops / _best_seconds(convolve, x, kernel)


def _best_seconds(function: Any, *args: Any) -> float:
    """Return the seconds of one call in the fastest of several blocks of at least 50 ms."""
    # The first call compiles, the second says how many make a block.
    jax.block_until_ready(function(*args))
    started = time.perf_counter()
    jax.block_until_ready(function(*args))
    calls = max(1, round(0.05 / (time.perf_counter() - started)))
    blocks = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        # Waited for once per block: dispatch of a call may overlap the one before it.
        results = [function(*args) for _ in range(calls)]
        jax.block_until_ready(results)
        blocks.append((time.perf_counter() - started) / calls)
    return min(blocks)


def median_and_spread(values: list[float]) -> tuple[float, float]:
    """Return the median, and half the interquartile range (nan for a single value)."""
    if len(values) < 2:
        return values[0], float("nan")
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, (high - low) / 2
