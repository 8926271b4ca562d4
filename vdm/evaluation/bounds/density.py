"""A density over the way from gamma_0 to gamma_1, where to spend the times of the continuous bound.

Piecewise constant in K equal parts. The variance of one independent time is least for a density
proportional to the root mean square of the integrand over images and noise; a tenth of it is uniform,
so that no weight exceeds ten times the uniform one, whatever the fit says.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vdm import diffusion
from vdm.distributions import codes
from vdm.models.diffusion_model import DiffusionModel
from vdm.seeds import stream_key
from vdm.types import Known, Params, PerExample

NUM_PARTS = 32
UNIFORM_SHARE = 0.1
FIT_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Density:
    """f on [0, 1], with mean 1.

    Attributes:
      heights: f in each of K equal parts.
    """

    heights: tuple[float, ...]

    def quantile(self, u: PerExample) -> tuple[PerExample, PerExample]:
        """(F^-1(u), f there) for u in [0, 1)."""
        heights = np.asarray(self.heights, np.float64)
        edges = np.concatenate([[0.0], np.cumsum(heights / heights.sum())])
        edges[-1] = 1.0
        starts = jnp.asarray(edges[:-1], jnp.float32)
        part = jnp.clip(jnp.searchsorted(starts, u, side="right") - 1, 0, len(heights) - 1)
        # The height that the rounded edges imply: what is drawn and its weight then agree.
        widths = jnp.asarray(np.diff(edges), jnp.float32)
        within = jnp.clip((u - starts[part]) / widths[part], 0.0, 1.0)
        return (part + within) / len(heights), widths[part] * len(heights)


UNIFORM = Density((1.0,))


def fit_density(model: DiffusionModel, params: Params, images: np.ndarray) -> Density:
    """From |eps - eps_hat|^2 in each part, over at most `FIT_IMAGES` training images [N,H,W,C]."""
    chosen = np.asarray(images[:FIT_IMAGES])
    square = jax.jit(lambda part: _mean_square(model, params, jnp.asarray(chosen), part))
    root = np.sqrt([float(square(np.int32(part))) for part in range(NUM_PARTS)])
    heights = (1.0 - UNIFORM_SHARE) * root / root.mean() + UNIFORM_SHARE
    return Density(tuple(float(h) for h in heights / heights.mean()))


def _mean_square(model: DiffusionModel, params: Params, images, part) -> jax.Array:
    """Mean over images and one part of (|eps - eps_hat|^2)^2; fixed noise."""
    key_share, key_eps = jax.random.split(jax.random.fold_in(stream_key(0, "paths"), part))
    size = len(images)
    share = (part + jax.random.uniform(key_share, (size, 1, 1, 1))) / NUM_PARTS
    gamma_0, gamma_1 = model.end_gammas(params)
    gamma = (1.0 - share) * gamma_0 + share * gamma_1
    eps = jax.random.normal(key_eps, images.shape)
    z = diffusion.diffuse(codes.bin_centres(images, model.num_levels), gamma, eps)
    eps_hat = model.predict_eps(params, z, gamma, Known(jnp.zeros(size)))
    return jnp.mean(jnp.square(jnp.sum(jnp.square(eps - eps_hat), axis=(1, 2, 3))))
