"""Luo's two decompositions of the bound on the first images of a split, and their table.

See `vdm.evaluation.analysis.decompositions` for the three (Luo 2022, arXiv:2208.11970).
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from experiments.reports.tables import Table
from vdm.data.batches import eval_batches
from vdm.evaluation.analysis.decompositions import Decomposition, evaluate_decompositions
from vdm.evaluation.bounds.table import LEAST_RANDOMISATIONS
from vdm.evaluation.statistics.estimate import Estimate, estimate
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.types import Batch, Params


def measure(
    parts: Parts,
    params: Params,
    split: str,
    num_images: int,
    timesteps: int,
    trajectories: int,
    seed: int,
    check: Callable[[], None],
) -> dict[str, Decomposition]:
    """Return {"denoising", "consistency", "consistency_kl": nats per trajectory and image}.

    Args:
      parts: data, model and devices of the run.
      params: the averaged (EMA) parameters.
      split: name of the split.
      num_images: how many images are used, the first of the split.
      timesteps: T of the bound; a trajectory takes as many network evaluations.
      trajectories: independent trajectories of each image, at least 2.
      seed: seed of the noise.
      check: called after every batch; may raise to stop.
    """
    batches = _first(parts, split, num_images)
    model = parts.model.as_diffusion("decompositions")
    with Progress("trajectories", len(batches) * trajectories, "batches") as bar:
        progress = evaluation_progress(bar, check)
        mesh = parts.mesh
        return evaluate_decompositions(
            model, params, batches, mesh, timesteps, trajectories, seed, progress
        )


def table(decompositions: Mapping[str, Decomposition], num_dims: int) -> Table:
    """Return totals in bits/dim with errors and variances in nats^2, then paired differences."""
    columns = ("decomposition", "bits/dim", "Monte Carlo s.e.", "var, one t", "var, all t")
    rows = []
    for name, decomposition in decompositions.items():
        total = estimate(decomposition.total, num_dims)
        variances = (
            f"{decomposition.variance_one_time:.4g}",
            f"{decomposition.variance_dense:.4g}",
        )
        rows.append((name, f"{total.mean:.4f}", _error(total, decomposition), *variances))

    # By trajectory: all of them saw the same noise, so the difference varies less than each.
    reference = decompositions["denoising"].total
    for name in [name for name in decompositions if name != "denoising"]:
        difference = estimate(decompositions[name].total - reference, num_dims)
        label, mean = f"{name} - denoising", f"{difference.mean:+.4f}"
        rows.append((label, mean, _error(difference, decompositions[name]), "", ""))
    return Table(columns, rows)


def _first(parts: Parts, split: str, num_images: int) -> list[Batch]:
    """Return the batches that hold the first `num_images` images; further images are masked out."""
    batches = []
    for batch in eval_batches(parts.dataset, split, parts.config["evaluate"]["batch_size"]):
        mask = np.asarray(batch.mask) & (np.asarray(batch.index) < num_images)
        if mask.any():
            batches.append(dataclasses.replace(batch, mask=mask))
    return batches


def _error(result: Estimate, decomposition: Decomposition) -> str:
    """Return the Monte Carlo error, bits/dim; "not estimated" for too few trajectories."""
    enough = len(decomposition.total) >= LEAST_RANDOMISATIONS
    return f"{result.monte_carlo_error:.4f}" if enough else "not estimated"
