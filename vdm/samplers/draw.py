"""Any number of samples of a model, batch by batch over the devices of a mesh."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.models.base import Model
from vdm.runtime import devices
from vdm.samplers.base import Sampler, Trajectory
from vdm.types import Params

NUM_ROWS = 8
"""Samples whose frames z and x_hat are returned; frames of all would not fit the memory."""

SampleStep = Callable[[Params, int, np.ndarray], Trajectory]
"""(params, seed, numbers of the samples [B]) -> Trajectory of them."""


def make_sample_step(
    model: Model, mesh: Mesh, sampler: Sampler, num_steps: int, num_frames: int = 1
) -> SampleStep:
    """Return a sampler compiled once, with samples split over the devices of `mesh`.

    Args:
      model: the model to sample.
      mesh: the devices; their number must divide the size of every batch.
      sampler: see `vdm.samplers.base.Sampler`.
      num_steps: T, steps from noise to image.
      num_frames: intervals into which the T steps are divided; z and x_hat are recorded at their
        ends, num_frames + 1 times.
    """
    whole = devices.replicated(mesh)

    def step(params, seed, index):
        params = devices.constrain(params, whole)
        return sampler(model, params, seed, index, num_steps, num_frames)

    # None for the parameters: they may arrive replicated or sharded, and `step` gathers them.
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
    """Draw `num` samples as numpy arrays; batch_size does not change them.

    Args:
      step: from `make_sample_step`.
      params: the model's parameters.
      seed: random seed of all noise.
      num: number of samples; their numbers are 0 .. num - 1.
      batch_size: samples per call of `step`; a multiple of the number of devices.
      progress: called with (samples drawn, num) after every batch; may raise to stop.

    Returns:
      A trajectory with all images [num,H,W,C], and with z and x_hat of the first NUM_ROWS samples.
    """
    images, first = [], None
    # The last batch is drawn in full and cut below, so that `step` compiles for one size only.
    for start in range(0, num, batch_size):
        trajectory = devices.to_host(step(params, seed, np.arange(start, start + batch_size)))
        images.append(trajectory.images)
        first = first or trajectory
        progress(min(start + batch_size, num), num)
    assert first is not None
    rows = min(NUM_ROWS, num)
    return Trajectory(np.concatenate(images)[:num], first.z[:, :rows], first.x_hat[:, :rows])
