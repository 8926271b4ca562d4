"""Data N(0, C) in three dimensions, an exact denoiser, and a gamma of its own for each dimension.

Every step is linear in z, so that NumPy knows bounds, samples and densities. For continuous time

    E[eps|z] = sigma M^-1 z,   M = alpha C alpha + sigma^2

gives the bound I(x; z_0) - I(x; z_1) along every path of gamma, and the mean over (x, eps) is exact
too: the error is linear in both, and the columns of sqrt(2 D) I have their second moments.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vdm.models.vdm.model import VDM
from vdm.schedules import Endpoints, make_schedule
from vdm.schedules.base import alpha_sigma
from vdm.schedules.per_pixel.polynomial import FLOOR
from vdm.types import Batch

COVARIANCE = np.array([[0.25, 0.15, 0.0], [0.15, 1.0, -0.3], [0.0, -0.3, 2.0]])
SHAPE = (1, 3, 1)

PATHS = {
    "straight": [[0.0, 0.0, 1.0]] * 3,
    "one after the other": [[0.0, -1.5, 1.5], [0.0, 0.0, 1.0], [0.0, 1.5, 0.2]],
    "back and forth": [[5.0, -5.0, 1.0], [-5.0, 5.0, -0.4], [0.3, 1.0, -0.6]],
    "random": np.random.default_rng(0).normal(size=(3, 3)).tolist(),
}
"""(a, b, c) of each dimension's polynomial."""


class Exact(nn.Module):
    """E[eps|z] of N(0, COVARIANCE) from a map of gamma; `ends` undo the map of time."""

    ends: tuple[float, float]

    @nn.compact
    def __call__(self, z, time, known, train):
        gamma = self.ends[0] + (self.ends[1] - self.ends[0]) * time
        alpha, sigma = alpha_sigma(jnp.broadcast_to(gamma, z.shape).reshape(-1, 3))
        matrix = alpha[:, :, None] * jnp.asarray(COVARIANCE, jnp.float32)[None] * alpha[:, None, :]
        matrix = matrix + jnp.square(sigma)[:, :, None] * jnp.eye(3)[None]
        solved = jnp.linalg.solve(matrix, z.reshape(-1, 3, 1))[..., 0]
        return (sigma * solved).reshape(z.shape)


@functools.cache
def make_exact(ends, num_levels=16, sees_gamma_map=True):
    """The model; without `sees_gamma_map` its denoiser is told the mean of gamma."""
    schedule = make_schedule(
        "pixel_polynomial", Endpoints(*ends), {"learned_endpoints": False}, {"shape": SHAPE}
    )
    return VDM(
        SHAPE, num_levels, schedule, Exact(ends), "eps", True, ends, sees_gamma_map=sees_gamma_map
    )


def path_params(path):
    """Parameters whose gammas take the named path."""
    weights = jnp.asarray(PATHS[path], jnp.float32).reshape(*SHAPE, 3)
    return {"schedule": {"shape": {"weights": weights}}, "denoiser": {}}


def make_batch(size, num_levels=16):
    """Random codes."""
    images = np.random.default_rng(0).integers(0, num_levels, (size, *SHAPE))
    index, flags = np.arange(size, dtype=np.int32), np.zeros(size, np.float32)
    return Batch(images, index, np.ones(size, bool), flags)


def path_gammas(path, ends, num_steps):
    """gamma(i/T) in float64 [T+1,3], from the antiderivative of the squared quadratic."""

    def mass(a, b, c, t):
        square = np.polynomial.Polynomial([c, b, a]) ** 2
        whole = square.integ()
        return whole(t) + FLOOR * (1.0 + whole(1.0)) * t

    t = np.arange(num_steps + 1) / num_steps
    share = np.stack([mass(*row, t) / mass(*row, 1.0) for row in np.float64(PATHS[path])], axis=1)
    return ends[0] + (ends[1] - ends[0]) * share


def scales(gamma):
    """(alpha, sigma) in float64, as diagonal matrices."""
    return np.diag(1 / np.sqrt(1 + np.exp(gamma))), np.diag(1 / np.sqrt(1 + np.exp(-gamma)))


def guess_of(alpha, sigma):
    """E[x|z] = G z."""
    return COVARIANCE @ alpha @ np.linalg.inv(alpha @ COVARIANCE @ alpha + sigma @ sigma)


def backward(gamma_s, gamma_t):
    """q(z_s|z_t, x) = N(A z_t + B x, V), by Bayes' rule for Gaussians."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = scales(gamma_s), scales(gamma_t)
    ratio = alpha_t @ np.linalg.inv(alpha_s)
    noise = sigma_t @ sigma_t - ratio @ ratio @ sigma_s @ sigma_s
    variance = np.linalg.inv(
        np.linalg.inv(sigma_s @ sigma_s) + ratio @ ratio @ np.linalg.inv(noise)
    )
    from_x = variance @ np.linalg.inv(sigma_s @ sigma_s) @ alpha_s
    return variance @ ratio @ np.linalg.inv(noise), from_x, variance
