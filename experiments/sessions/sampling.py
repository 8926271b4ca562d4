"""Samples of a model, batch by batch, and their pictures."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.reports import pictures
from vdm.errors import ConfigError
from vdm.runs.progress import Progress
from vdm.samplers import Trajectory, draw
from vdm.samplers.draw import SampleStep
from vdm.types import Params

NUM_FRAMES = 10
"""Stretches of the way from noise to image, whose ends are the pictures of a strip."""


def draw_samples(
    step: SampleStep, params: Params, seed: int, num: int, batch_size: int, check: Callable
) -> Trajectory:
    """Draw samples with a progress bar.

    Args:
      step: the compiled sampler of one batch.
      params: parameters of the model, the averaged (EMA) ones as a rule.
      seed: seed of all noise.
      num: number of samples.
      batch_size: samples at once, a multiple of the number of devices.
      check: called after every batch; may raise to stop.

    Returns:
      Images [num,H,W,C], and of the first few also frames of z_t and x_hat where the sampler has them.
    """
    with Progress("sampling", num, "samples") as bar:

        def report(done: int, total: int) -> None:
            del total
            bar.update(done)
            check()

        return draw.draw_samples(step, params, seed, num, batch_size, report)


def write_pictures(folder: Path, name: str, trajectory: Trajectory, num_levels: int) -> list[Path]:
    """Write a grid of the samples, and strips of z_t and x_hat from noise (left) to image (right).

    Args:
      folder: where the pictures go.
      name: NAME.png is the grid, NAME-steps.png the strips.
      trajectory: the samples; without frames no strips are written.
      num_levels: number of integer codes per channel.

    Returns:
      The paths written.
    """
    grid, strip = folder / f"{name}.png", folder / f"{name}-steps.png"
    pictures.write_grid(grid, pictures.codes_to_bytes(trajectory.images, num_levels))
    if not len(trajectory.z):
        return [grid]
    # Rows of z_t and x_hat in turn, one pair per sample.
    pairs = np.stack([trajectory.z, trajectory.x_hat], axis=0).transpose(2, 0, 1, 3, 4, 5)
    tiles = pairs.reshape(-1, *trajectory.z.shape[2:])
    pictures.write_grid(strip, pictures.latents_to_bytes(tiles), num_columns=len(trajectory.z))
    return [grid, strip]


def check_memory(num: int, shape: tuple[int, int, int]) -> None:
    """Raise ConfigError where samples of this shape alone would take a quarter of the memory.

    Args:
      num: number of samples.
      shape: (H, W, C) of one.
    """
    # int32, the dtype of the codes as the device gives them.
    needed = num * math.prod(shape) * 4
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available // 4:
        most = available // 4 // (math.prod(shape) * 4)
        raise ConfigError(
            f"--num={num}: {needed / 2**30:.0f} GiB of samples do not fit in memory; "
            f"choose at most {most}"
        )
