"""3x3 convolution in the form that is fastest on the device.

On an accelerator that is XLA's own. On a CPU XLA computes matrix products fastest, so convolutions with
many channels go by Winograd's tiles (`vdm.networks.cpu.winograd`), and so do their gradients. These are
as fast inside a loop as outside; XLA's own gradients take up to 45 times as long in a loop.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vdm.networks.base import on_one_cpu
from vdm.networks.cpu.winograd import conv_by_tiles, kernel_gradient_by_tiles

MIN_CHANNELS_OF_TILES = 64
"""Least width of input and output for tiles: below it the transforms cost more than they save."""


def conv3x3(
    channels: int,
    dtype: Any,
    zero: bool = False,
    train: bool = False,
    in_loop: bool = False,
    name: str | None = None,
) -> nn.Conv:
    """Return a 3x3 convolution that keeps the image size.

    Args:
      channels: number of output channels.
      dtype: dtype of the computation.
      zero: whether the kernel starts at zero.
      train: whether it will be differentiated, in reverse mode only.
      in_loop: whether the call is inside `lax.scan`. The gradients by tiles pay off only there: written
        out, they take twice as long to compile and, in deep networks, to run.
      name: name of the module, and so of its parameters.
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
    """Convolve x [B,H,W,C], padded with zeros, with a kernel [3,3,C,C'] -> [B,H,W,C']."""
    return conv_by_tiles(x, kernel) if _suits_tiles(x, kernel) else _plain_conv(x, kernel)


@jax.custom_vjp
def conv_for_training(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return `conv_forward` with reverse-mode gradients that are as fast in a loop as outside."""
    return conv_forward(x, kernel)


def _forward(x, kernel):
    return conv_forward(x, kernel), (x, kernel)


def _backward(residuals, dy):
    x, kernel = residuals
    by_input = conv_forward(dy, kernel[::-1, ::-1].swapaxes(2, 3))
    # The sum over images is one exchange between devices; tiles would make sixteen.
    by_tiles = on_one_cpu() and _suits_tiles(x, kernel)
    form = kernel_gradient_by_tiles if by_tiles else kernel_gradient_by_products
    return by_input, form(x, dy).astype(kernel.dtype)


conv_for_training.defvjp(_forward, _backward)


def kernel_gradient_by_products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Return the gradient by the kernel as nine matrix products, [3,3,C,C'].

    On one device they run in a loop, with a ninth of the code to compile. With several devices every
    iteration would exchange sums, so there they are written out.
    """
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = dy.reshape(-1, dy.shape[-1])

    def product(shift):
        start = (0, *shift, 0)
        shifted = jax.lax.dynamic_slice(padded, start, x.shape, allow_negative_indices=False)
        columns = shifted.reshape(-1, x.shape[-1]).T
        return jnp.matmul(columns, rows, preferred_element_type=jnp.float32)

    shifts = [(i, j) for i in range(3) for j in range(3)]
    if on_one_cpu():
        products = jax.lax.map(product, tuple(jnp.array(shifts).T))
    else:
        products = jnp.stack([product(shift) for shift in shifts])
    return products.reshape(3, 3, *products.shape[1:])


def _suits_tiles(x: jax.Array, kernel: jax.Array) -> bool:
    """Return True if tiles apply (even height and width) and are faster (float32, many channels)."""
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    return even and x.dtype == jnp.float32 and min(kernel.shape[2:]) >= MIN_CHANNELS_OF_TILES


def _plain_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
