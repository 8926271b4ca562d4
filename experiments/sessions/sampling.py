"""Samples of a model, batch by batch, and their pictures."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.reports import pictures
from vdm.errors import ConfigError
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress
from vdm.runtime import devices
from vdm.samplers import Sampler, Trajectory
from vdm.types import Params

NUM_FRAMES = 10
NUM_ROWS = 8


def make_sample_step(parts: Parts, sampler: Sampler, num_steps: int, num_frames: int) -> Callable:
    """(params, seed, index) -> Trajectory, compiled once, samples split over the devices."""

    model, mesh = parts.model, parts.mesh
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
    step: Callable, params: Params, seed: int, num: int, batch_size: int, check: Callable
) -> Trajectory:
    """`num` samples, with progress; `check` may raise to stop it within a batch.

    Only the first NUM_ROWS keep their frames.
    """
    images, first = [], None
    with Progress("sampling", num, "samples") as bar:
        for start in range(0, num, batch_size):
            found = devices.to_host(step(params, seed, np.arange(start, start + batch_size)))
            images.append(found.images)
            first = first or found
            bar.update(min(start + batch_size, num))
            check()
    assert first is not None
    rows = min(NUM_ROWS, num)
    return Trajectory(np.concatenate(images)[:num], first.z[:, :rows], first.x_hat[:, :rows])


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
