"""Estimates with their 95 % intervals, as points or as horizontal bars."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vdm.evaluation.statistics.estimate import Estimate
from vdm.evaluation.statistics.jackknife import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TICKS = 20


def plot_estimates(axes: "Axes", estimates: Mapping[int, Estimate], total: float) -> None:
    """Draw a point with its 95 % interval over images per channel or class, and the mean of all.

    Args:
      axes: where to draw; ticks are left out above MAX_TICKS points.
      estimates: {number of the channel or class: bits/dim}.
      total: bits/dim over all channels and images, a horizontal line.
    """
    for number, estimate in estimates.items():
        if estimate.interval is not None:
            axes.plot((number, number), estimate.interval, color="C0")
        axes.plot(number, estimate.mean, "o", color="C0")
    axes.axhline(total, color="black", linewidth=0.8, label="total")
    axes.set_xticks(list(estimates) if len(estimates) <= MAX_TICKS else [])
    axes.set_ylabel("bits/dim; bars: 95 % over images")


def plot_bars(axes: "Axes", values: Mapping[str, Interval]) -> None:
    """Draw a horizontal bar per run with its 95 % interval, the first run on top.

    Args:
      axes: where to draw.
      values: {run: number with its interval}, such as the variance of the bound in (bits/dim)^2.
    """
    lengths = np.array([v.value for v in values.values()])
    # A jackknife interval of a ratio need not contain its value; matplotlib refuses negative errors.
    errors = np.array([(max(v.value - v.low, 0.0), v.high - v.value) for v in values.values()])
    axes.barh(list(values), lengths, xerr=errors.T, color="C0", capsize=3)
    axes.invert_yaxis()
