"""Spread of a number over training seeds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vdm.evaluation.statistics.between_seeds import BetweenSeeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MeanAndInterval = tuple[float, tuple[float, float] | None]
"""Mean over seeds and its 95 % interval, as `mean_and_interval` in `between_seeds.py` returns them."""


def plot_between_seeds(
    axes: "Axes", between: Mapping[str, BetweenSeeds], totals: Mapping[str, Sequence[float]]
) -> None:
    """Draw, per group of seeds, each seed's total and two 95 % intervals between seeds.

    The thick dark line is the interval of the groups' mean, the wide pale one that of the next seed.

    Args:
      axes: where to draw; one row per group, the first on top.
      between: {group: statistics over its seeds}, bits/dim.
      totals: {group: total of every seed}, bits/dim.
    """
    for row, (label, statistics) in enumerate(between.items()):
        axes.plot(statistics.next_seed, (row, row), color=f"C{row}", alpha=0.3, linewidth=6)
        axes.plot(statistics.interval, (row, row), color=f"C{row}", linewidth=3)
        axes.plot(totals[label], [row] * len(totals[label]), "k|", markersize=12)
    axes.set_yticks(range(len(between)), list(between))
    axes.set_ylim(len(between) - 0.5, -0.5)
    axes.set_xlabel("total, bits/dim; ticks: seeds, 95 %: their mean (dark), the next seed (pale)")


def plot_values_per_seed(
    axes: "Axes",
    values: Mapping[str, Sequence[float]],
    means: Mapping[str, MeanAndInterval],
    *,
    logarithmic: bool = False,
) -> None:
    """Draw a dot per seed, their mean as a tick and its 95 % interval as a line; a row per variant.

    Args:
      axes: where to draw; the first variant is at the bottom, see `Axes.invert_yaxis`.
      values: {variant: one value per training seed}.
      means: {variant: (mean, interval)}; no interval for fewer than two seeds.
      logarithmic: whether the horizontal axis is, as for variances over orders of magnitude.
    """
    for row, (variant, of_seeds) in enumerate(values.items()):
        mean, interval = means[variant]
        axes.plot(of_seeds, [row] * len(of_seeds), ".", color="C0")
        axes.plot([mean], [row], "|", color="black", markersize=12)
        if interval:
            axes.plot(interval, [row, row], color="black", linewidth=1)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_xscale("log" if logarithmic else "linear")
