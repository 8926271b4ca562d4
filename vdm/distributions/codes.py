"""Integer codes <-> [-1, 1], and the likelihood p(x|z_0) of codes given the cleanest latent.

Code v of L stands for the centre of its bin, x_v = (2 v + 1)/L - 1, and

    (1)  p(v|z_0) = softmax_k( -(z_0/alpha_0 - x_k)^2 / (2 exp(gamma_0)) )

per channel (Kingma et al. 2021, arXiv:2107.00630, sec. 3.3). Measured in bins from the code's own
centre, with d = (z_0/alpha_0 - x_v) L/2, j = k - v and the precision w = exp(-gamma_0) (2/L)^2, this is

    (2)  -log p(v|z_0) = log sum_j exp(w (d j - j^2/2)),   j = -v .. L-1-v.

If the noise is narrow against a bin (w >= MIN_WINDOW_PRECISION), all but the 7 levels nearest to z_0
have a probability below 1e-10 and are left out; otherwise, and for few levels, a loop visits every one.
No array has an axis over the levels, not even in the backward pass: d/dd and d/dw are averages over j.
"""

import functools
import math

import jax
import jax.numpy as jnp

from vdm.types import Gamma, Images, Latents, PRNGKey

WINDOW_RADIUS = 3
"""Number of levels on each side of the nearest one that the window holds."""
MIN_WINDOW_PRECISION = 4.0
"""Least w for the window: noise of at most half a bin, so that all beyond it is below exp(-24)."""
_NODES = 289  # of the trapezoidal rule
_REACH = 9.0  # of the trapezoidal rule, in standard deviations
_EDGE = 8  # with w >= 4, z_0 strays 4.5 bins and the window 3 more: 8 bins from an edge is inside
_WIDE_LEVELS = 1025  # rows of a table for more levels: codes beyond it are alike


def bin_centres(images: Images, num_levels: int) -> Latents:
    """Return the centres of the codes' bins, x_v = (2 v + 1)/L - 1 [B,H,W,C], float32."""
    return (2.0 * jnp.asarray(images, jnp.float32) + 1.0) / num_levels - 1.0


def nearest_codes(x: Latents, num_levels: int) -> Images:
    """Return the code whose bin centre is nearest to each x, int32 [B,H,W,C]."""
    code = jnp.floor((x + 1.0) * (num_levels / 2))
    return jnp.clip(code, 0, num_levels - 1).astype(jnp.int32)


def log_prob(images: Images, z_0_rescaled: Latents, gamma_0: Gamma, num_levels: int) -> Latents:
    """Return log p(v|z_0) of each channel's code [B,H,W,C], nats, equation (1).

    Args:
      images: codes v [B,H,W,C].
      z_0_rescaled: z_0/alpha_0 [B,H,W,C].
      gamma_0: noise level of z_0, broadcastable to it.
      num_levels: L.
    """
    bins_off_centre = (z_0_rescaled - bin_centres(images, num_levels)) * (num_levels / 2)
    precision = jnp.broadcast_to(_precision(gamma_0, num_levels), images.shape)
    codes = images.astype(jnp.float32)
    nearby, every = (functools.partial(_surprise, reach, num_levels) for reach in (False, True))
    if num_levels <= 2 * WINDOW_RADIUS + 1:
        return -every(bins_off_centre, precision, codes)
    narrow = jnp.all(precision >= MIN_WINDOW_PRECISION)
    return -jax.lax.cond(narrow, nearby, every, bins_off_centre, precision, codes)


def log_probs(z_0_rescaled: Latents, gamma_0: Gamma, num_levels: int) -> jax.Array:
    """Return log p(v|z_0) of every code v [B,H,W,C,L], nats, for z_0_rescaled = z_0/alpha_0."""
    centres = bin_centres(jnp.arange(num_levels), num_levels)
    square = jnp.square(z_0_rescaled[..., None] - centres[None, None, None, None])
    return jax.nn.log_softmax(-0.5 * jnp.exp(-gamma_0)[..., None] * square, axis=-1)


def sample(keys: PRNGKey, z_0_rescaled: Latents, gamma_0: Gamma, num_levels: int) -> Images:
    """Draw v ~ p(v|z_0), equation (1), int32 [B,H,W,C].

    The draw is argmax_k (log p(k) + Gumbel noise), taken level after level.

    Args:
      keys: one key per image [B], consumed.
      z_0_rescaled: z_0/alpha_0 [B,H,W,C].
      gamma_0: noise level of z_0, broadcastable to it.
      num_levels: L.
    """
    precision = _precision(gamma_0, num_levels)
    bins = (z_0_rescaled + 1.0) * (num_levels / 2) - 0.5

    def draw(key):
        return jax.random.gumbel(key, z_0_rescaled.shape[1:])

    def consider(k, best):
        gumbel = jax.vmap(lambda key: draw(jax.random.fold_in(key, k)))(keys)
        score = gumbel - 0.5 * precision * jnp.square(bins - k)
        better = score > best[0]
        return jnp.where(better, score, best[0]), jnp.where(better, k, best[1])

    start = (jnp.full(bins.shape, -jnp.inf), jnp.zeros(bins.shape, jnp.int32))
    return jax.lax.fori_loop(0, num_levels, consider, start)[1]


def expected_surprise(gamma_0: Gamma, num_levels: int) -> jax.Array:
    """Return E_q(z_0|x)[-log p(v|z_0)] for every code v [min(L, 1025)], nats, by quadrature.

    It depends on the code's distance to the nearer edge alone, not on the data, and is differentiable
    in gamma_0. The trapezoidal rule on +-9 standard deviations is exact to float32. The row of a code
    is `table_row`.

    Args:
      gamma_0: noise level of z_0, of any shape of size 1.
      num_levels: L.

    Raises:
      ValueError: more than one gamma_0.
    """
    if gamma_0.size != 1:
        raise ValueError(f"gamma_0 has shape {gamma_0.shape}: quadrature needs one scalar")
    precision = _precision(gamma_0.reshape(()), num_levels)
    size = min(num_levels, _WIDE_LEVELS)
    wide = lambda w: _table(w, size, every_level=True)  # noqa: E731
    if num_levels <= 2 * _EDGE + 1:
        return wide(precision)
    narrow = lambda w: _spread(_table(w, 2 * _EDGE + 1, every_level=False), size)  # noqa: E731
    return jax.lax.cond(precision >= MIN_WINDOW_PRECISION, narrow, wide, precision)


def table_row(images: Images, num_levels: int) -> Images:
    """Return the row of each code in `expected_surprise`, int32 of the images' shape."""
    size = min(num_levels, _WIDE_LEVELS)
    from_below = jnp.minimum(images.astype(jnp.int32), size // 2)
    from_above = size - 1 - jnp.minimum(num_levels - 1 - images.astype(jnp.int32), size // 2)
    return jnp.where(images < num_levels - size // 2, from_below, from_above)


def max_gamma_0(num_levels: int) -> float:
    """Return the largest gamma_0 for which the quadrature is exact; infinite up to 1025 levels."""
    if num_levels <= _WIDE_LEVELS:
        return math.inf
    noise_in_bins = _WIDE_LEVELS / 2 / 16
    return 2.0 * math.log(noise_in_bins * 2.0 / num_levels)


def default_gamma_0(num_levels: int) -> float:
    """Return -13.3 + 2 ln(256/L), at least -24: as sharp per bin as the paper's for 256 levels."""
    return max(-24.0, -13.3 + 2.0 * math.log(256.0 / num_levels))


def _precision(gamma_0, num_levels: int):
    """Return w of equation (2), the inverse variance of z_0/alpha_0 given x, in bins^-2."""
    return jnp.exp(-gamma_0) * (2.0 / num_levels) ** 2


def _table(precision, num_levels: int, every_level: bool):
    """Return the expected surprise of every code of `num_levels` levels, for one precision w."""
    eps = jnp.linspace(-_REACH, _REACH, _NODES)
    weight = jnp.exp(-0.5 * eps**2)
    codes = jnp.arange(num_levels, dtype=jnp.float32)
    codes = jnp.broadcast_to(codes[:, None], (num_levels, _NODES))
    bins_off_centre = jnp.broadcast_to((eps / jnp.sqrt(precision))[None, :], codes.shape)
    precision = jnp.broadcast_to(precision, codes.shape)
    surprise = _surprise(every_level, num_levels, bins_off_centre, precision, codes)
    return surprise @ (weight / weight.sum())


def _spread(table, num_levels: int):
    """Spread a table for 17 levels over `num_levels` rows: codes far from both edges are alike."""
    codes = jnp.arange(num_levels)
    from_above = table.size - 1 - jnp.minimum(num_levels - 1 - codes, _EDGE)
    return table[jnp.where(codes <= num_levels // 2, jnp.minimum(codes, _EDGE), from_above)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _surprise(every_level: bool, num_levels: int, d, w, code):
    """Evaluate equation (2) elementwise, over every level or the window, for float32 of one shape."""
    return _log_sum_and_means(every_level, num_levels, d, w, code)[0]


@_surprise.defjvp
def _surprise_jvp(every_level, num_levels, primals, tangents):
    _, w, _ = primals
    value, mean_j, mean_exponent = _log_sum_and_means(every_level, num_levels, *primals)
    return value, w * mean_j * tangents[0] + mean_exponent * tangents[1]


def _log_sum_and_means(every_level: bool, num_levels: int, d, w, code):
    """Return (log sum_j exp(w f_j), E[j], E[f_j]), f_j = d j - j^2/2, under the softmax over j."""
    lowest, highest = -code, num_levels - 1 - code
    nearest = jnp.clip(jnp.round(d), lowest, highest)
    largest = nearest * (d - 0.5 * nearest)
    first = lowest if every_level else nearest - WINDOW_RADIUS

    def add_level(k, sums):
        j = first + k.astype(d.dtype)
        inside = (j >= lowest) & (j <= highest)
        # f_j - largest as a product: the difference of two large numbers need not even be negative.
        below = jnp.where(inside, (j - nearest) * (d - 0.5 * (j + nearest)), 0.0)
        weight = jnp.where(inside, jnp.exp(w * below), 0.0)
        return sums[0] + weight, sums[1] + weight * j, sums[2] + weight * below

    visited = num_levels if every_level else 2 * WINDOW_RADIUS + 1
    total, total_j, total_below = jax.lax.fori_loop(0, visited, add_level, (jnp.zeros_like(d),) * 3)
    return jnp.log(total) + w * largest, total_j / total, largest + total_below / total
