"""The denoising term as a density over gamma, and the band of gamma where two runs differ most.

Each value of the term belongs to one time, and so to one gamma = -log SNR. The part of the term in a
bin of gamma is the mean over all values of (value if its gamma lies in the bin, else 0); the parts
add up to the term, 1/2 int E|eps - eps_hat|^2 dgamma (Kingma et al. 2021, arXiv:2107.00630, eq. 18).
"""

import dataclasses

import numpy as np
from scipy import stats

from vdm.evaluation.evaluate import Evaluation
from vdm.evaluation.statistics.bootstrap import simultaneous_factor
from vdm.evaluation.statistics.estimate import Estimate, estimate

NUM_BINS = 24
"""Equal bins of gamma."""
SHARE = 0.9
"""Fraction of the largest part of a difference that the reported band holds at least."""


@dataclasses.dataclass(frozen=True)
class Binned:
    """The denoising term of every image, split into K bins of gamma; R randomisations of N images.

    Attributes:
      edges: edges of the bins in gamma, increasing [K + 1].
      nats: part of each value in each bin [K, R, N].
      shared: the part of `nats` that depends on the times alone (with a context nearly so), for
        `vdm.evaluation.statistics.estimate.estimate` [K, R, N].
      num_dims: D, dimensions per image.
    """

    edges: np.ndarray
    nats: np.ndarray
    shared: np.ndarray
    num_dims: int

    def __sub__(self, other: "Binned") -> "Binned":
        """Return the difference of two runs that were evaluated at the same gammas with the same noise.

        Raises:
          ValueError: the bins differ.
        """
        if not np.array_equal(self.edges, other.edges):
            raise ValueError(
                f"edges: {self.edges} and {other.edges} do not pair; bin both over one range of gamma"
            )
        nats, shared = self.nats - other.nats, self.shared - other.shared
        return Binned(self.edges, nats, shared, self.num_dims)

    def band(self, first: int, last: int) -> Estimate:
        """Return the part in bins first .. last, both included, in bits/dim with its errors."""
        bins = slice(first, last + 1)
        return estimate(self.nats[bins].sum(axis=0), self.num_dims, self.shared[bins].sum(axis=0))


@dataclasses.dataclass(frozen=True)
class Profile:
    """The density of the denoising term over gamma, in bits/dim per unit of gamma.

    Attributes:
      edges: edges of the K bins in gamma [K + 1].
      density: mean over images [K]; the sum of density times bin width is the denoising term.
      standard_error: standard error of the density, over images [K].
      pointwise: half-width of a 95 % interval for each bin alone [K].
      simultaneous: half-width of intervals that hold in all bins at once with 95 % [K].
    """

    edges: np.ndarray
    density: np.ndarray
    standard_error: np.ndarray
    pointwise: np.ndarray
    simultaneous: np.ndarray


@dataclasses.dataclass(frozen=True)
class Band:
    """The narrowest contiguous band of gamma with SHARE of the largest part of a difference.

    Attributes:
      low, high: edges of the band in gamma.
      part: difference of the denoising term within the band, bits/dim.
      interval: 95 % for `part`, valid for all contiguous bands at once, because this band was selected
        by the data.
      whole: difference of the whole denoising term, bits/dim.
    """

    low: float
    high: float
    part: float
    interval: tuple[float, float]
    whole: float

    @property
    def is_certain(self) -> bool:
        """True if the interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


def bin_values(nats: np.ndarray, gammas: np.ndarray, edges: np.ndarray, num_dims: int) -> Binned:
    """Split values into bins of gamma.

    Args:
      nats: values of the denoising term [repeats, R, N].
      gammas: gamma of each value [repeats, R, N].
      edges: edges of the bins in gamma, increasing [K + 1]; values outside go to the outermost bins.
      num_dims: D.
    """
    num_bins = len(edges) - 1
    bin_of_value = np.clip(np.searchsorted(edges, gammas, side="right") - 1, 0, num_bins - 1)
    parts, shared = [], []
    for k in range(num_bins):
        # The times alone decide which values lie in a bin: their number times the bin's mean value
        # is the part that does not depend on the image.
        inside = bin_of_value == k
        mean = nats[inside].mean() if inside.any() else 0.0
        parts.append(np.where(inside, nats, 0.0).mean(axis=0))
        shared.append(mean * inside.mean(axis=0))
    return Binned(edges, np.stack(parts), np.stack(shared), num_dims)


def bin_paired(evaluation: Evaluation, gammas: tuple[float, float]) -> Binned:
    """Split the denoising term of a paired evaluation in continuous time into NUM_BINS bins of gamma.

    Args:
      evaluation: made with the step of `vdm.evaluation.analysis.paired.make_paired_step`, whose
        times are uniform in gamma.
      gammas: the common range (low, high) of that step.

    Raises:
      ValueError: several times per image, whose values are averaged; fewer than two images; or a
        model without times.
    """
    estimation, num_images = evaluation.estimation, len(evaluation.index)
    if estimation.repeats != 1 or num_images < 2:
        raise ValueError(
            f"repeats={estimation.repeats}, {num_images} images: needs repeats=1 and at least 2 images"
        )
    if evaluation.times is None:
        raise ValueError(
            "times=None: the terms of this model have no times, and so no noise levels to bin by"
        )
    low, high = gammas
    at = low + evaluation.times * (high - low)
    edges = np.linspace(low, high, NUM_BINS + 1)
    nats = evaluation.terms["denoising_matching"][None]
    return bin_values(nats, at, edges, evaluation.num_dims)


def profile(binned: Binned) -> Profile:
    """Return the density of the term over gamma, with its errors."""
    width = np.diff(binned.edges)
    rows = [binned.band(k, k) for k in range(len(width))]
    mean, error = (np.array([getattr(r, n) for r in rows]) for n in ("mean", "standard_error"))
    factor = simultaneous_factor(_per_image(binned))
    half_widths = [_half_width(row, factor) for row in rows]
    pointwise = [row.interval[1] - row.mean for row in rows if row.interval]
    return Profile(
        binned.edges, mean / width, error / width, pointwise / width, np.array(half_widths) / width
    )


def decisive_band(binned: Binned) -> Band:
    """Return the narrowest band of bins with at least SHARE of the largest sum over any band.

    Sums are signed by the direction of the whole difference; of equally narrow bands, the one with the
    largest sum.
    """
    num_bins = len(binned.edges) - 1
    whole = binned.band(0, num_bins - 1).mean

    # The selection, by means over images.
    bands = [(i, j) for i in range(num_bins) for j in range(i, num_bins)]
    means = binned.nats.mean(axis=(1, 2))
    sign = -1.0 if whole < 0 else 1.0
    parts = {(i, j): sign * float(means[i : j + 1].sum()) for i, j in bands}
    largest = max(parts.values())
    enough = [band for band in bands if parts[band] >= SHARE * largest]
    first, last = min(enough, key=lambda p: (p[1] - p[0], -parts[p]))

    # Because the band was selected, its interval must hold for all bands at once: simultaneous
    # half-widths over the sums of every band, as differences of cumulative sums.
    sums = np.cumsum(np.pad(_per_image(binned), ((0, 0), (1, 0))), axis=1)
    factor = simultaneous_factor(np.stack([sums[:, j + 1] - sums[:, i] for i, j in bands], axis=1))
    part = binned.band(first, last)
    half_width = _half_width(part, factor)
    interval = (part.mean - half_width, part.mean + half_width)
    low, high = float(binned.edges[first]), float(binned.edges[last + 1])
    return Band(low, high, part.mean, interval, whole)


def _per_image(binned: Binned) -> np.ndarray:
    """Return the parts of each image [N, K] in nats, without what all images share."""
    return (binned.nats - binned.shared).mean(axis=1).T


def _half_width(row: Estimate, factor: float) -> float:
    """Return the half-width of an interval of `factor` normal deviations, by Student's t.

    The factor is exchanged for that of Student's t with the same tail probability and the estimate's
    degrees of freedom, which few randomisations make small.
    """
    if row.standard_error is None or row.degrees_of_freedom is None:
        return 0.0
    deviations = stats.t.isf(stats.norm.sf(factor), row.degrees_of_freedom)
    return float(deviations) * row.standard_error
