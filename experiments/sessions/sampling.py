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


def draw_samples(
    step: SampleStep, params: Params, seed: int, num: int, batch_size: int, check: Callable
) -> Trajectory:
    """`vdm.samplers.draw.draw_samples` with progress; `check` may raise to stop within a batch."""
    with Progress("sampling", num, "samples") as bar:

        def report(done: int, total: int) -> None:
            del total
            bar.update(done)
            check()

        return draw.draw_samples(step, params, seed, num, batch_size, report)


def write_pictures(folder: Path, name: str, found: Trajectory, num_levels: int) -> list[Path]:
    """A grid of the samples, and strips of z_t and x_hat on the way, noise on the left, if any."""
    grid, strip = folder / f"{name}.png", folder / f"{name}-steps.png"
    pictures.write_grid(grid, pictures.codes_to_bytes(found.images, num_levels))
    if not len(found.z):
        return [grid]
    # Rows of z_t and x_hat in turn, one pair per sample.
    pairs = np.stack([found.z, found.x_hat], axis=0).transpose(2, 0, 1, 3, 4, 5)
    tiles = pairs.reshape(-1, *found.z.shape[2:])
    pictures.write_grid(strip, pictures.latents_to_bytes(tiles), num_columns=len(found.z))
    return [grid, strip]


def check_memory(num: int, shape: tuple[int, int, int]) -> None:
    """ConfigError when the samples alone would not fit into this machine's memory."""
    needed = num * math.prod(shape) * 4
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available // 4:
        most = available // 4 // (math.prod(shape) * 4)
        raise ConfigError(
            f"--num={num}: {needed / 2**30:.0f} GiB of samples do not fit in memory; "
            f"choose at most {most}"
        )
