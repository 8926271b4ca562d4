"""Codes -> continuous points at which a density is taken, and what that costs.

With a proposal r over z_0/alpha_0, in x's units, for an image of codes v (all in nats, per image):

    log P(v) >= E_r[ log p(z_0/alpha_0) + log P(v|z_0) - log r(z_0/alpha_0|v) ]

    uniform      r uniform on the code's bin, P(v|z_0) = 1 there. The network has only seen bin centres
                 with noise exp(gamma_0/2): where that is much narrower than a bin, most of the bin is
                 off-distribution, and the bound pays for it.
    truncated    r = N(x_v, exp(gamma_0)) cut to the bin, P(v|z_0) = 1 there; its constants follow
                 gamma_0.
    variational  r = q(z_0|x) = N(x_v, exp(gamma_0)), with the model's own decoder P(v|z_0).

The half width of a bin is 1/L.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, ndtr, ndtri

from vdm.distributions import codes
from vdm.types import Gamma, Images, Latents, PerExample

Dequantise = Callable[[Images, Latents, Gamma, int], tuple[Latents, PerExample]]
"""(images, standard normal noise, gamma_0, L) -> (z_0/alpha_0, log P(v|z_0) - log r [B])."""


def uniform(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """Uniform on the bin: density L/2 per channel."""
    del gamma_0
    point = codes.bin_centres(images, num_levels) + (2.0 * ndtr(noise) - 1.0) / num_levels
    return point, jnp.full(noise.shape[0], noise[0].size * jnp.log(2.0 / num_levels))


def truncated(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """q(z_0|x) cut to the bin."""
    scale = jnp.exp(0.5 * gamma_0)
    reach = jnp.minimum(1.0 / (num_levels * scale), 9.0)  # beyond 9 nothing is cut in float32
    inside = erf(reach / jnp.sqrt(2.0))
    # ndtri from the lower half only, where it keeps float32's digits.
    tail = ndtr(-reach) + ndtr(-jnp.abs(noise)) * inside
    drawn = jnp.clip(-ndtri(tail), 0.0, reach) * jnp.sign(noise)
    log_r = -0.5 * jnp.square(drawn) - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(scale * inside)
    return codes.bin_centres(images, num_levels) + scale * drawn, -_sum(log_r)


def variational(images: Images, noise: Latents, gamma_0: Gamma, num_levels: int):
    """q(z_0|x), with the decoder."""
    point = codes.bin_centres(images, num_levels) + jnp.exp(0.5 * gamma_0) * noise
    log_r = -0.5 * jnp.square(noise) - 0.5 * (jnp.log(2 * jnp.pi) + gamma_0)
    return point, _sum(codes.log_prob(images, point, gamma_0, num_levels) - log_r)


DEQUANTISATIONS: dict[str, Dequantise] = {
    "uniform": uniform,
    "truncated": truncated,
    "variational": variational,
}


def _sum(per_dim: jax.Array) -> PerExample:
    return jnp.sum(per_dim, axis=(1, 2, 3))
