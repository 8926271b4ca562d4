"""Breakdown of the bound of one run per dimension, channel, class, image and noise level.

The pass has the same times and noise as `vdm.evaluation.evaluate`, but the terms keep their dimensions
until a batch is done; over batches only sums are kept, as maps of every image would not fit the memory.
The parts add up: the mean over a map is its term; the mean over channels, over classes (weighted by
their images) or over images is the total; the integral over gamma is the denoising term.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from vdm.evaluation.analysis.noise_levels import NUM_BINS, Binned, bin_values
from vdm.evaluation.batches import Batches, Progress, join, silent, visit
from vdm.evaluation.evaluate import Estimation, Evaluation
from vdm.evaluation.statistics.estimate import Estimate, estimate
from vdm.models.base import Model
from vdm.models.records import TermMaps
from vdm.runtime.devices import batch_sharding, replicated, to_host
from vdm.types import TERM_NAMES, Params, bits_per_dim

MAPPED = ("reconstruction", "prior_matching", "denoising_matching")
"""Terms that are sums over dimensions; the KL of a context is not."""


@dataclasses.dataclass(frozen=True)
class Map:
    """One term of the bound per dimension, in bits; the mean over dimensions is the term in bits/dim.

    Attributes:
      bits: mean over images [H,W,C].
      standard_error: over images, with the Monte Carlo part [H,W,C]; None for a single image.
    """

    bits: np.ndarray
    standard_error: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The bound of a run with its parts; R randomisations of N images.

    Attributes:
      evaluation: equal to that of `vdm.evaluation.evaluate.evaluate` up to rounding.
      maps: {term in `MAPPED`: its map over dimensions}.
      channels: nats of every channel, sum of all terms [R, N, C].
      binned: the denoising term in bins of gamma.
    """

    evaluation: Evaluation
    maps: dict[str, Map]
    channels: np.ndarray
    binned: Binned

    def per_channel(self) -> list[Estimate]:
        """Return the bits/dim of each channel, per dimension of the channel; the mean is the total."""
        num_channels = self.channels.shape[2]
        num_dims = self.evaluation.num_dims // num_channels
        nats = np.moveaxis(self.channels, 2, 0)
        return [estimate(n, num_dims, self.evaluation.shared(n)) for n in nats]


def make_breakdown_step(
    model: Model, estimation: Estimation, mesh: Mesh
) -> Callable[..., TermMaps]:
    """Return (params, batch, randomisation, repeat) -> TermMaps, compiled once over `mesh`."""
    model = model.with_timesteps(estimation.num_timesteps)

    def step(params, batch, randomisation, repeat):
        noise = model.evaluation_noise(estimation.seed, randomisation, repeat, batch.index)
        return model.term_maps(params, batch, noise)

    shardings = (replicated(mesh), batch_sharding(mesh), None, None)
    return jax.jit(step, in_shardings=shardings, out_shardings=replicated(mesh))


def break_down(
    model: Model,
    params: Params,
    batches: Batches,
    estimation: Estimation,
    mesh: Mesh,
    progress: Progress = silent,
) -> Breakdown:
    """Evaluate the bound of every image of `batches` with all its parts, in one pass.

    Args:
      model, params: the model; pass the EMA parameters.
      batches: every image once, padding masked; one batch is in memory at a time.
      estimation: settings of the estimate.
      mesh: the devices; their number must divide the batch size.
      progress: called after every randomisation of every batch.
    """
    compiled = make_breakdown_step(model, estimation, mesh)

    def step(batch, randomisation):
        return _maps_of_batch(compiled, params, batch, randomisation, estimation.repeats)

    # Maps are added up batch by batch; only values per image are kept of all batches.
    sums, rows = {name: _Sums() for name in MAPPED}, []
    for index, values in visit(batches, step, estimation.randomisations, mesh, progress):
        for name, sums_of_term in sums.items():
            sums_of_term.add(values[name])
        rows.append((index, _per_image(values)))
    index, joined = join(rows)

    # [R,N,repeats] -> [repeats,R,N], the order of times; contiguous, so that sums have one order too.
    gammas, by_time = (
        np.ascontiguousarray(np.moveaxis(joined.pop(n), 2, 0)) for n in ("gammas", "by_time")
    )
    channels = joined.pop("channels")

    # nextafter: the largest gamma then lies inside the last bin, which excludes its upper edge.
    edges = np.linspace(gammas.min(), np.nextafter(gammas.max(), np.inf), NUM_BINS + 1)
    sizes = (estimation.seed, estimation.repeats, estimation.randomisations)
    times = model.evaluation_times(*sizes, index)
    terms = {name: joined[name] for name in TERM_NAMES}
    return Breakdown(
        Evaluation(index, terms, model.num_dims, estimation, times),
        {name: sums_of_term.result() for name, sums_of_term in sums.items()},
        channels,
        bin_values(by_time, gammas, edges, model.num_dims),
    )


def _per_image(values: Mapping) -> dict:
    """Return the values per image of a batch: maps summed over dimensions, and over pixels.

    Args:
      values: {term: [R,B,H,W,C], "auxiliary": [R,B], "gammas" and "by_time": [R,B,repeats]}, nats.

    Returns:
      {term: [R,B], ..., "channels": [R,B,C]}.
    """
    maps = {name: values[name] for name in MAPPED}
    channels = sum(v.sum(axis=(2, 3)) for v in maps.values())
    # The KL of a context belongs to no channel: each bears an equal share, so that channels add up.
    channels = channels + values["auxiliary"][..., None] / channels.shape[2]
    terms = {name: v.sum(axis=(2, 3, 4)) for name, v in maps.items()}
    others = {name: values[name] for name in ("auxiliary", "gammas", "by_time")}
    return {**terms, **others, "channels": channels}


def _maps_of_batch(step, params, batch, randomisation: int, repeats: int) -> dict:
    """Return the maps of a batch in one randomisation.

    Args:
      step: from `make_breakdown_step`.
      params, batch: its arguments.
      randomisation: number of the randomisation.
      repeats: times per image.

    Returns:
      {term: [B,H,W,C] and "auxiliary": [B], averaged over repeats, nats; "gammas" and "by_time", the
      gamma and the denoising nats of every repeat: [B,repeats]}.
    """
    number = np.int32(randomisation)
    maps = [to_host(step(params, batch, number, np.int32(repeat))) for repeat in range(repeats)]
    means = {
        name: np.mean([np.float64(getattr(m, name)) for m in maps], axis=0)
        for name in (*MAPPED, "auxiliary")
    }
    # Before averaging: each repeat has a noise level of its own.
    gammas = [np.float64(m.gamma) for m in maps]
    by_time = [np.float64(m.denoising_matching).sum(axis=(1, 2, 3)) for m in maps]
    return {**means, "gammas": np.stack(gammas, 1), "by_time": np.stack(by_time, 1)}


class _Sums:
    """Running sums per dimension over batches, for the mean and its variance.

    The variance is that of `vdm.evaluation.statistics.estimate.variances` for values [R, N], without
    subtracting what times share.
    """

    def __init__(self):
        self._count = 0
        self._squares = self._within = self._by_randomisation = np.zeros(())

    def add(self, values: np.ndarray) -> None:
        """Add the values of one batch [R,B,H,W,C], nats."""
        self._count += values.shape[1]
        self._squares = self._squares + np.square(values.mean(axis=0)).sum(axis=0)
        if len(values) > 1:
            self._within = self._within + values.var(axis=0, ddof=1).sum(axis=0)
        self._by_randomisation = self._by_randomisation + values.sum(axis=1)

    def result(self) -> Map:
        """Return the mean over all images added, with its standard error."""
        count, means = self._count, self._by_randomisation / self._count
        mean, repeats = means.mean(axis=0), len(means)
        if count == 1:
            return Map(bits_per_dim(mean, 1), None)
        # Variance of the mean over images; from one randomisation its Monte Carlo part is inseparable.
        between = np.maximum(self._squares / count - mean**2, 0.0) / (count - 1)
        if repeats == 1:
            return Map(bits_per_dim(mean, 1), bits_per_dim(np.sqrt(between), 1))
        # Less the noise of each image's mean over randomisations, plus that of the whole mean.
        within = self._within / (repeats * count**2)
        variance = np.maximum(between - within, 0.0) + means.var(axis=0, ddof=1) / repeats
        return Map(bits_per_dim(mean, 1), bits_per_dim(np.sqrt(variance), 1))


def per_class(evaluation: Evaluation, labels: np.ndarray) -> dict[int, tuple[int, Estimate]]:
    """Return {class: (number of its images, mean of their total in bits/dim with errors)}.

    Args:
      evaluation: evaluation of a labelled split.
      labels: class of every image, in the order of the split.
    """
    classes = np.asarray(labels)[evaluation.index]
    return {
        int(label): (
            int((classes == label).sum()),
            _subset(evaluation, classes == label).estimate(),
        )
        for label in np.unique(classes)
    }


def _subset(evaluation: Evaluation, chosen: np.ndarray) -> Evaluation:
    """Return the evaluation of the images where `chosen` [N] is true."""
    terms = {name: values[:, chosen] for name, values in evaluation.terms.items()}
    times = None if evaluation.times is None else evaluation.times[..., chosen]
    return dataclasses.replace(evaluation, index=evaluation.index[chosen], terms=terms, times=times)
