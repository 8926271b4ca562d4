"""An importance density over gamma, from which the continuous-time bound draws its noise levels.

With s = (gamma - gamma_0)/(gamma_1 - gamma_0) in [0, 1] and f a density of s with mean 1, the bound
draws s = F^-1(u) for uniform u and weights its integrand by 1/f (see
`vdm.evaluation.bounds.sampled`). f is piecewise constant on K equal intervals. The variance of the
estimate from one independent draw is least for f proportional to the root mean square of the
integrand over images and noise (importance sampling). A tenth of the fitted density is uniform, so
that no weight exceeds ten times the uniform one.
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
"""K, equal intervals of a fitted density."""
UNIFORM_SHARE = 0.1
"""Fraction of a fitted density that is uniform; weights are at most its inverse."""
FIT_IMAGES = 256
"""Training images that a fit uses at most."""


@dataclasses.dataclass(frozen=True)
class GammaImportanceDensity:
    """A piecewise constant importance density f on [0, 1] over gamma, with mean 1.

    0 stands for gamma_0, 1 for gamma_1.

    Attributes:
      heights: proportional to f on each of K equal intervals; all positive.
    """

    heights: tuple[float, ...]

    def quantile(self, u: PerExample) -> tuple[PerExample, PerExample]:
        """Return (s, f(s)) at s = F^-1(u) for u in [0, 1) [B], each [B]."""
        heights = np.asarray(self.heights, np.float64)
        edges = np.concatenate([[0.0], np.cumsum(heights / heights.sum())])
        edges[-1] = 1.0

        # The interval of F that u falls into, then a line within it.
        starts = jnp.asarray(edges[:-1], jnp.float32)
        part = jnp.clip(jnp.searchsorted(starts, u, side="right") - 1, 0, len(heights) - 1)
        # f is computed from the float32 edges, not from `heights`: density and weight then agree
        # exactly, and the estimate stays unbiased.
        widths = jnp.asarray(np.diff(edges), jnp.float32)
        within = jnp.clip((u - starts[part]) / widths[part], 0.0, 1.0)
        return (part + within) / len(heights), widths[part] * len(heights)


UNIFORM = GammaImportanceDensity((1.0,))
"""The density of a continuous-time bound without importance sampling."""


def fit_density(
    model: DiffusionModel, params: Params, images: np.ndarray
) -> GammaImportanceDensity:
    """Return the density proportional to the root mean square of |eps - eps_hat|^2, a tenth uniform.

    Args:
      model, params: a trained diffusion model with one gamma per time.
      images: training images, never those of the evaluation; the first `FIT_IMAGES` are used
        [N,H,W,C].
    """
    chosen = np.asarray(images[:FIT_IMAGES])
    square = jax.jit(lambda part: _mean_square(model, params, jnp.asarray(chosen), part))
    rms = np.sqrt([float(square(np.int32(part))) for part in range(NUM_PARTS)])
    heights = (1.0 - UNIFORM_SHARE) * rms / rms.mean() + UNIFORM_SHARE
    return GammaImportanceDensity(tuple(float(h) for h in heights / heights.mean()))


def _mean_square(model: DiffusionModel, params: Params, images, part) -> jax.Array:
    """Return the mean of (|eps - eps_hat|^2)^2 over images [N,H,W,C] and one interval of gamma.

    The noise is fixed, so that a model has one fitted density. `part` is the interval's number,
    0 .. NUM_PARTS - 1.
    """
    key_s, key_eps = jax.random.split(jax.random.fold_in(stream_key(0, "paths"), part))
    size = len(images)
    s = (part + jax.random.uniform(key_s, (size, 1, 1, 1))) / NUM_PARTS
    gamma_0, gamma_1 = model.end_gammas(params)
    gamma = (1.0 - s) * gamma_0 + s * gamma_1
    eps = jax.random.normal(key_eps, images.shape)
    z = diffusion.diffuse(codes.bin_centres(images, model.num_levels), gamma, eps)
    eps_hat = model.predict_eps(params, z, gamma, Known(jnp.zeros(size)))
    return jnp.mean(jnp.square(jnp.sum(jnp.square(eps - eps_hat), axis=(1, 2, 3))))
