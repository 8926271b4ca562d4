"""Where the bits go: the bound of one run per dimension, channel, class, image and noise level.

The same pass, times and noise as `vdm.evaluation.evaluate`, but the terms keep their dimensions for as
long as a batch lasts; over batches only sums of them are kept. Averages over the parts give back the
whole: over a map a term, over channels, classes (weighted by their images) and images the total, and
the integral over gamma the denoising term.
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


@dataclasses.dataclass(frozen=True)
class Map:
    """Bits of every dimension [H,W,C]: its mean over dimensions is the term in bits/dim.

    `standard_error` is over images; None for a single image.
    """

    bits: np.ndarray
    standard_error: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Attributes:
    evaluation: what `vdm.evaluation.evaluate.evaluate` gives.
    maps: by term.
    channels: nats of every channel, all terms [R, N, C].
    binned: the denoising term by gamma.
    """

    evaluation: Evaluation
    maps: dict[str, Map]
    channels: np.ndarray
    binned: Binned

    def per_channel(self) -> list[Estimate]:
        """Bits per dimension of each channel; their mean is the total."""
        num_channels = self.channels.shape[2]
        num_dims = self.evaluation.num_dims // num_channels
        nats = np.moveaxis(self.channels, 2, 0)
        return [estimate(n, num_dims, self.evaluation.shared(n)) for n in nats]


def make_breakdown_step(
    model: Model, estimation: Estimation, mesh: Mesh
) -> Callable[..., TermMaps]:
    """(params, batch, randomisation, repeat) -> TermMaps, compiled once over `mesh`."""

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
    """One pass over `batches`; arguments as in `vdm.evaluation.evaluate.evaluate`."""
    compiled = make_breakdown_step(model, estimation, mesh)

    def step(batch, randomisation):
        return _maps_of_batch(compiled, params, batch, randomisation, estimation.repeats)

    sums, rows = {name: _Sums() for name in MAPPED}, []
    for index, values in visit(batches, step, estimation.randomisations, mesh, progress):
        for name, found in sums.items():
            found.add(values[name])
        rows.append((index, _per_image(values)))
    index, joined = join(rows)
    # [R,N,repeats] -> [repeats,R,N]
    gammas, by_time = (
        np.ascontiguousarray(np.moveaxis(joined.pop(n), 2, 0)) for n in ("gammas", "by_time")
    )
    channels = joined.pop("channels")
    edges = np.linspace(gammas.min(), np.nextafter(gammas.max(), np.inf), NUM_BINS + 1)
    sizes = (estimation.seed, estimation.repeats, estimation.randomisations)
    times = model.evaluation_times(*sizes, index)
    terms = {name: joined[name] for name in TERM_NAMES}
    return Breakdown(
        Evaluation(index, terms, model.num_dims, estimation, times),
        {name: found.result() for name, found in sums.items()},
        channels,
        bin_values(by_time, gammas, edges, model.num_dims),
    )


def _per_image(values: Mapping) -> dict:
    """The values of a batch [R,B,...] whose maps are summed over dimensions, and over pixels."""
    maps = {name: values[name] for name in MAPPED}
    channels = sum(v.sum(axis=(2, 3)) for v in maps.values())
    # A context belongs to no channel: each bears an equal share.
    channels = channels + values["auxiliary"][..., None] / channels.shape[2]
    terms = {name: v.sum(axis=(2, 3, 4)) for name, v in maps.items()}
    others = {name: values[name] for name in ("auxiliary", "gammas", "by_time")}
    return {**terms, **others, "channels": channels}


def _maps_of_batch(step, params, batch, randomisation: int, repeats: int) -> dict:
    """Maps [B,H,W,C] and auxiliary nats [B], averaged over repeats; gammas and denoising nats
    [B,repeats]."""
    number = np.int32(randomisation)
    found = [to_host(step(params, batch, number, np.int32(repeat))) for repeat in range(repeats)]
    means = {
        name: np.mean([np.float64(getattr(f, name)) for f in found], axis=0)
        for name in (*MAPPED, "auxiliary")
    }
    gammas = [np.float64(f.gamma) for f in found]
    by_time = [np.float64(f.denoising_matching).sum(axis=(1, 2, 3)) for f in found]
    return {**means, "gammas": np.stack(gammas, 1), "by_time": np.stack(by_time, 1)}


class _Sums:
    """Per dimension, what `vdm.evaluation.statistics.estimate.variances` needs of [R, N] values, batch
    by batch."""

    def __init__(self):
        self._count = 0
        self._squares = self._within = self._by_randomisation = np.zeros(())

    def add(self, values: np.ndarray) -> None:
        """[R,B,H,W,C] nats of one batch."""
        self._count += values.shape[1]
        self._squares = self._squares + np.square(values.mean(axis=0)).sum(axis=0)
        if len(values) > 1:
            self._within = self._within + values.var(axis=0, ddof=1).sum(axis=0)
        self._by_randomisation = self._by_randomisation + values.sum(axis=1)

    def result(self) -> Map:
        count, means = self._count, self._by_randomisation / self._count
        mean, repeats = means.mean(axis=0), len(means)
        if count == 1:
            return Map(bits_per_dim(mean, 1), None)
        between = np.maximum(self._squares / count - mean**2, 0.0) / (count - 1)
        if repeats == 1:
            return Map(bits_per_dim(mean, 1), bits_per_dim(np.sqrt(between), 1))
        within = self._within / (repeats * count**2)
        variance = np.maximum(between - within, 0.0) + means.var(axis=0, ddof=1) / repeats
        return Map(bits_per_dim(mean, 1), bits_per_dim(np.sqrt(variance), 1))


def per_class(evaluation: Evaluation, labels: np.ndarray) -> dict[int, tuple[int, Estimate]]:
    """{class: (images, estimate of their total)}; `labels` [N] in the order of the split."""
    own = np.asarray(labels)[evaluation.index]
    return {
        int(label): (int((own == label).sum()), _subset(evaluation, own == label).estimate())
        for label in np.unique(own)
    }


def _subset(evaluation: Evaluation, chosen: np.ndarray) -> Evaluation:
    terms = {name: values[:, chosen] for name, values in evaluation.terms.items()}
    times = None if evaluation.times is None else evaluation.times[..., chosen]
    return dataclasses.replace(evaluation, index=evaluation.index[chosen], terms=terms, times=times)


@dataclasses.dataclass(frozen=True)
class Extremes:
    """The images that cost least and most.

    They are chosen by every other randomisation and valued by the rest: an image chosen for a value
    that noise made extreme would be shown with it.

    Attributes:
      easiest, hardest: positions in the split [K], the most extreme first.
      bits: {position: bits/dim} of every image, unbiased for the chosen ones; their mean is an
        estimate of the total from half of the randomisations.
      error: {position: Monte Carlo standard error of `bits`}; None below four randomisations.
    """

    easiest: np.ndarray
    hardest: np.ndarray
    bits: Mapping[int, float]
    error: Mapping[int, float] | None


def extremes(evaluation: Evaluation, count: int) -> Extremes:
    """The `count` easiest and hardest images.

    Raises:
      ValueError: a single randomisation, which cannot both choose and value.
    """
    values = bits_per_dim(evaluation.total, evaluation.num_dims)
    if len(values) < 2:
        raise ValueError("randomisations=1: extremes need at least 2, to choose and to value apart")
    order = np.argsort(values[0::2].mean(axis=0), kind="stable")
    rest, index = values[1::2], evaluation.index
    error = rest.std(axis=0, ddof=1) / np.sqrt(len(rest)) if len(rest) > 1 else None
    return Extremes(
        index[order[:count]],
        index[order[::-1][:count]],
        dict(zip(index.tolist(), rest.mean(axis=0).tolist(), strict=True)),
        None if error is None else dict(zip(index.tolist(), error.tolist(), strict=True)),
    )
