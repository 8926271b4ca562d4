"""Where in gamma the denoising term arises: bits/dim per unit of gamma, and what made a difference.

Every value belongs to one time, so to one gamma. The part of the term in a bin of gamma is the mean of
the values whose gamma lies in it, and 0 for the others; the parts add up to the term.
"""

import dataclasses

import numpy as np
from scipy import stats

from vdm.evaluation.evaluate import Evaluation
from vdm.evaluation.statistics.bootstrap import simultaneous_factor
from vdm.evaluation.statistics.estimate import Estimate, estimate

NUM_BINS = 24
SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Binned:
    """Attributes:
    edges: of the bins [K + 1].
    nats: part of every value in every bin [K, R, N].
    shared: what of it depends on the times alone (with a context nearly so), for
      `vdm.evaluation.statistics.estimate.estimate` [K, R, N].
    num_dims: D.
    """

    edges: np.ndarray
    nats: np.ndarray
    shared: np.ndarray
    num_dims: int

    def __sub__(self, other: "Binned") -> "Binned":
        """Of two runs at the same gammas; the times of a common randomisation are the same."""
        if not np.array_equal(self.edges, other.edges):
            raise ValueError(f"edges: {self.edges} and {other.edges} do not pair")
        nats, shared = self.nats - other.nats, self.shared - other.shared
        return Binned(self.edges, nats, shared, self.num_dims)

    def band(self, first: int, last: int) -> Estimate:
        """The part in bins first .. last, bits/dim."""
        bins = slice(first, last + 1)
        return estimate(self.nats[bins].sum(axis=0), self.num_dims, self.shared[bins].sum(axis=0))


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where in gamma the denoising term arises: bits/dim per unit of gamma, in equal bins.

    Attributes:
      edges: of the bins [K + 1].
      density: mean over images [K]; times the width of a bin it sums to the denoising term.
      standard_error: over images [K].
      pointwise: half-width of a 95 % interval for each bin by itself [K].
      simultaneous: half-width of intervals that hold in all bins at once, 95 % [K].
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
      low, high: of gamma.
      part: of the difference that arises there, bits/dim.
      interval: 95 %, for all contiguous bands at once, because this one was chosen after looking.
      whole: the difference of the denoising term.
    """

    low: float
    high: float
    part: float
    interval: tuple[float, float]
    whole: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def bin_values(nats: np.ndarray, gammas: np.ndarray, edges: np.ndarray, num_dims: int) -> Binned:
    """Values [repeats, R, N] at gammas of the same shape, into bins."""
    num_bins = len(edges) - 1
    found = np.clip(np.searchsorted(edges, gammas, side="right") - 1, 0, num_bins - 1)
    parts, shared = [], []
    for k in range(num_bins):
        inside = found == k
        mean = nats[inside].mean() if inside.any() else 0.0
        parts.append(np.where(inside, nats, 0.0).mean(axis=0))
        shared.append(mean * inside.mean(axis=0))
    return Binned(edges, np.stack(parts), np.stack(shared), num_dims)


def bin_paired(evaluation: Evaluation, gammas: tuple[float, float]) -> Binned:
    """Of an evaluation by `vdm.evaluation.analysis.paired.make_paired_step`, in continuous time.

    Raises:
      ValueError: several times per image, whose values are averaged, or one image alone.
    """
    estimation, num_images = evaluation.estimation, len(evaluation.index)
    if estimation.repeats != 1 or num_images < 2:
        raise ValueError(
            f"repeats={estimation.repeats}, {num_images} images: need 1, and at least 2"
        )
    if evaluation.times is None:
        raise ValueError(
            "times: the terms of this model take no times, so that none has a noise level"
        )
    low, high = gammas
    at = low + evaluation.times * (high - low)
    edges = np.linspace(low, high, NUM_BINS + 1)
    nats = evaluation.terms["denoising_matching"][None]
    return bin_values(nats, at, edges, evaluation.num_dims)


def profile(binned: Binned) -> Profile:
    """The density of the term in every bin, with its errors."""
    width = np.diff(binned.edges)
    rows = [binned.band(k, k) for k in range(len(width))]
    mean, error = (np.array([getattr(r, n) for r in rows]) for n in ("mean", "standard_error"))
    factor = simultaneous_factor(_per_image(binned))
    reach = [_reach(row, factor) for row in rows]
    pointwise = [row.interval[1] - row.mean for row in rows if row.interval]
    return Profile(
        binned.edges, mean / width, error / width, pointwise / width, np.array(reach) / width
    )


def decisive_band(binned: Binned) -> Band:
    """The fewest contiguous bins with SHARE of the largest sum in the direction of the difference."""
    num_bins = len(binned.edges) - 1
    whole = binned.band(0, num_bins - 1).mean
    places = [(i, j) for i in range(num_bins) for j in range(i, num_bins)]
    means = binned.nats.mean(axis=(1, 2))
    sign = -1.0 if whole < 0 else 1.0
    parts = {(i, j): sign * float(means[i : j + 1].sum()) for i, j in places}
    most = max(parts.values())
    enough = [place for place in places if parts[place] >= SHARE * most]
    first, last = min(enough, key=lambda p: (p[1] - p[0], -parts[p]))
    sums = np.cumsum(np.pad(_per_image(binned), ((0, 0), (1, 0))), axis=1)
    factor = simultaneous_factor(np.stack([sums[:, j + 1] - sums[:, i] for i, j in places], axis=1))
    found = binned.band(first, last)
    reach = _reach(found, factor)
    interval = (found.mean - reach, found.mean + reach)
    low, high = float(binned.edges[first]), float(binned.edges[last + 1])
    return Band(low, high, found.mean, interval, whole)


def _per_image(binned: Binned) -> np.ndarray:
    """[N, K], less what images share."""
    return (binned.nats - binned.shared).mean(axis=1).T


def _reach(row: Estimate, factor: float) -> float:
    """`factor` normal deviations as those of Student's t with the estimate's degrees of freedom."""
    if row.standard_error is None or row.degrees_of_freedom is None:
        return 0.0
    deviations = stats.t.isf(stats.norm.sf(factor), row.degrees_of_freedom)
    return float(deviations) * row.standard_error
