"""Small models with a gamma per pixel or per image, and the same numbers with a scalar one."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vdm.models.vdm.make import make_model
from vdm.models.vdm.noise import training_noise
from vdm.types import Batch, DataSpec

SHAPE = (3, 4, 1)
GAUSSIAN = {"name": "gaussian", "gaussian": {"num_features": 3}}
BITS = {"name": "categorical", "categorical": {"num_variables": 3}}


def make_small(
    schedule="pixel_polynomial", context=None, shape=SHAPE, gamma_input="map", **options
):
    spec = DataSpec("toy", shape, 17, {"train": 1}, "0" * 64)
    if schedule.startswith(("pixel_", "conditional_")):
        options = {"learned_endpoints": True, **options}
    return make_model(
        spec,
        {"parameterisation": "eps", "reconstruction": "expected", "gamma_input": gamma_input},
        {"name": schedule, "gamma_0": None, "gamma_1": None, schedule: options},
        {"name": "mlp", "mlp": {"width": 8, "num_blocks": 1}},
        context,
    )


def shaken(model, scale=0.3):
    """Random parameters; the schedule's near its start, and valid."""
    rng = np.random.default_rng(0)
    draw = lambda v: jnp.asarray(scale * rng.standard_normal(v.shape), jnp.float32)  # noqa: E731
    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    start = model.schedule.init(jax.random.key(0))
    schedule = jax.tree.map(jnp.add, params["schedule"], start)
    return {**params, "schedule": model.schedule.project(schedule)}


def make_batch(size, shape=SHAPE):
    images = np.random.default_rng(1).integers(0, 17, (size, *shape))
    flags = np.arange(size, dtype=np.float32) % 2
    return Batch(images, np.arange(size, dtype=np.int32), np.ones(size, bool), flags)


def noise_of(model, size):
    return training_noise(jax.random.key(7), size, model.shape, model.draw_context)


class Smooth(nn.Module):
    """A random network without time embedding.

    The others hear time through sinusoids of 1000 t, so that one rounding of gamma is 1e-5 of their
    answer, and two programs that round differently are as far apart.
    """

    @nn.compact
    def __call__(self, z, time, known, train):
        wide = jnp.broadcast_to(time, z.shape)
        flat = jnp.concatenate([a.reshape(len(z), -1) for a in (z, wide)], axis=1)
        hidden = jnp.tanh(nn.Dense(16)(flat))
        return 0.5 * z + nn.Dense(z[0].size)(hidden).reshape(z.shape)


@functools.cache
def pair(schedule):
    """(per pixel, scalar): the same numbers in every pixel, or one set of them for all of an image."""
    pixel, scalar = make_small(schedule), make_small(schedule, sharing="channel")
    assert scalar.has_scalar_gamma and not pixel.has_scalar_gamma
    return tuple(dataclasses.replace(model, denoiser=Smooth()) for model in (pixel, scalar))


@functools.cache
def paired_parameters(schedule, scale=0.3):
    """Random ones, far from the line."""
    pixel, scalar = pair(schedule)
    params, own = shaken(pixel, scale), shaken(scalar, 0.3)["schedule"]["shape"]["weights"]
    ends = params["schedule"]["endpoints"]
    wide = jnp.broadcast_to(own, (*SHAPE[:2], *own.shape))
    return tuple(
        {**params, "schedule": {"endpoints": ends, "shape": {"weights": w}}} for w in (wide, own)
    )
