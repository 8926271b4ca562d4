"""Samples of a model, batch by batch, over the devices of a mesh."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.models.base import Model
from vdm.runtime import devices
from vdm.samplers.base import Sampler, Trajectory
from vdm.types import Params

NUM_ROWS = 8

SampleStep = Callable[[Params, int, np.ndarray], Trajectory]
"""(params, seed, index [B]) -> Trajectory."""


def make_sample_step(
    model: Model, mesh: Mesh, sampler: Sampler, num_steps: int, num_frames: int = 1
) -> SampleStep:
    """A sampler compiled once, with samples split over the devices of `mesh`.

    Args:
      model: what is sampled.
      mesh: the devices; each batch must divide evenly.
      sampler: see `vdm.samplers.base.Sampler`.
      num_steps: steps from noise to image.
      num_frames: frames of the way there that a trajectory keeps, besides the first.
    """
    whole = devices.replicated(mesh)

    def step(params, seed, index):
        params = devices.constrain(params, whole)
        return sampler(model, params, seed, index, num_steps, num_frames)

    # Parameters come as they lie, copied or split over devices.
    shardings = (None, None, devices.batch_sharding(mesh))
    compiled = jax.jit(step, in_shardings=shardings, out_shardings=whole)

    def placed(params, seed, index):
        return compiled(params, seed, devices.place_batch(index, mesh))

    return placed


def draw_samples(
    step: SampleStep,
    params: Params,
    seed: int,
    num: int,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectory:
    """`num` samples as numpy arrays; the size of a batch changes none of them.

    Args:
      step: from `make_sample_step`.
      params: the model's parameters.
      seed: of all noise.
      num: how many samples.
      batch_size: samples at once.
      progress: is told (samples drawn, in all) after every batch; may raise to stop.

    Returns:
      All images; of the first NUM_ROWS also the way there.
    """
    images, first = [], None
    for start in range(0, num, batch_size):
        found = devices.to_host(step(params, seed, np.arange(start, start + batch_size)))
        images.append(found.images)
        first = first or found
        progress(min(start + batch_size, num), num)
    assert first is not None
    rows = min(NUM_ROWS, num)
    return Trajectory(np.concatenate(images)[:num], first.z[:, :rows], first.x_hat[:, :rows])
