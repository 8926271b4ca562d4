"""Stacked terms of the bound, a bar per run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vdm.types import TERM_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_terms(axes: "Axes", bits_per_dim: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a horizontal bar per run, composed of the terms of its negative ELBO in bits/dim.

    A black line over each bar is the 95 % interval of the total over images. Runs evaluated on the same
    images share most of that error, so the lines are not intervals of differences.

    Args:
      axes: where to draw; one row per run, the first on top.
      bits_per_dim: {run: {term or "total": {"mean", "interval"}}}, as `Evaluated.bits_per_dim` of
        `vdm.runs.run` and the entry "bits_per_dim" of a stored evaluation have it.
    """
    names, left = list(bits_per_dim), np.zeros(len(bits_per_dim))
    for term in TERM_NAMES:
        values = [estimates[term]["mean"] for estimates in bits_per_dim.values()]
        # A term that is zero for all runs, such as the auxiliary one, would only fill the legend.
        if any(values):
            axes.barh(names, values, left=left, label=term.replace("_", " "))
            left += values

    for row, estimates in enumerate(bits_per_dim.values()):
        # A split of one image has no interval.
        if interval := estimates["total"]["interval"]:
            axes.plot(interval, (row, row), color="black")

    axes.invert_yaxis()
    axes.set_xlabel("bits/dim; bars: 95 % over images, not of differences")
