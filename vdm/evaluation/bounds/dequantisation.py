"""Dequantisation: from integer codes to points at which a continuous density is evaluated.

A density p of y = z_0/alpha_0, in the units of x, bounds the probability of an image of codes v
through a proposal r(y|v) (variational dequantisation, Ho et al. 2019, arXiv:1902.00275), in nats per
image:

    log P(v) >= E_r[ log p(y) + log P(v|y) - log r(y|v) ]

    uniform      r uniform on the code's bin, P(v|y) = 1 there. Training showed the network only bin
                 centres with noise exp(gamma_0/2): if that is much narrower than a bin, most of the bin
                 is out of distribution, and the bound is loose.
    truncated    r = N(x_v, exp(gamma_0)) truncated to the bin, P(v|y) = 1 there.
    variational  r = q(z_0|x) = N(x_v, exp(gamma_0)), with the decoder P(v|z_0) of the model.

With L codes per channel on [-1, 1] a bin is 2/L wide and x_v is its centre.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, ndtr, ndtri

from vdm.distributions import codes
from vdm.types import Gamma, Images, Latents, PerExample

Dequantise = Callable[[Images, Latents, Gamma, int], tuple[Latents, PerExample]]
"""(codes, standard normal noise, gamma_0, L) -> (y [B,H,W,C], log P(v|y) - log r(y|v) [B] in nats)."""


def uniform(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """Draw uniformly on the bin; the density is L/2 per channel.

    Args:
      images: integer codes v [B,H,W,C].
      noise: standard normal noise [B,H,W,C], made uniform by its distribution function.
      gamma_0: unused.
      num_levels: L.
    """
    del gamma_0
    point = codes.bin_centres(images, num_levels) + (2.0 * ndtr(noise) - 1.0) / num_levels
    return point, jnp.full(noise.shape[0], noise[0].size * jnp.log(2.0 / num_levels))


def truncated(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """Draw from q(z_0|x) truncated to the bin.

    Args:
      images: integer codes v [B,H,W,C].
      noise: standard normal noise [B,H,W,C], mapped monotonically into the bin.
      gamma_0: sets the standard deviation exp(gamma_0/2) in the units of x.
      num_levels: L.
    """
    scale = jnp.exp(0.5 * gamma_0)
    # Half the bin in standard deviations; beyond 9 the truncation has no effect in float32.
    half_bin = jnp.minimum(1.0 / (num_levels * scale), 9.0)
    inside = erf(half_bin / jnp.sqrt(2.0))

    # The magnitude by the inverse of the lower tail, where small probabilities keep their digits in
    # float32; near 1 they would not.
    tail = ndtr(-half_bin) + ndtr(-jnp.abs(noise)) * inside
    drawn = jnp.clip(-ndtri(tail), 0.0, half_bin) * jnp.sign(noise)
    log_r = -0.5 * jnp.square(drawn) - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(scale * inside)
    return codes.bin_centres(images, num_levels) + scale * drawn, -_sum(log_r)


def variational(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """Draw from q(z_0|x), and weigh by the decoder.

    Args:
      images: integer codes v [B,H,W,C].
      noise: standard normal noise [B,H,W,C].
      gamma_0: sets the standard deviation exp(gamma_0/2) in the units of x, and the decoder.
      num_levels: L.
    """
    point = codes.bin_centres(images, num_levels) + jnp.exp(0.5 * gamma_0) * noise
    log_r = -0.5 * jnp.square(noise) - 0.5 * (jnp.log(2 * jnp.pi) + gamma_0)
    return point, _sum(codes.log_prob(images, point, gamma_0, num_levels) - log_r)


DEQUANTISATIONS: dict[str, Dequantise] = {
    "uniform": uniform,
    "truncated": truncated,
    "variational": variational,
}
"""{value of option `dequantisation` of bound "ode": its function}."""


def _sum(per_dim: jax.Array) -> PerExample:
    return jnp.sum(per_dim, axis=(1, 2, 3))
