"""Noise levels gamma that training drew, in the course of training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_drawn_gammas(axes: "Axes", curves: Mapping[str, np.ndarray]) -> None:
    """Draw the median of the drawn gammas, and bands with half and nine tenths of them.

    Args:
      axes: where to draw.
      curves: columns "images" (images seen) and the quantiles "0.05", "0.25", "0.5", "0.75" and "0.95"
        of gamma, [logged steps] each; see `vdm.runs.history.drawn_gammas`.
    """
    for low, high, alpha in (("0.05", "0.95", 0.2), ("0.25", "0.75", 0.4)):
        axes.fill_between(curves["images"], curves[low], curves[high], color="C0", alpha=alpha)
    axes.plot(curves["images"], curves["0.5"], color="C0")
    axes.set_xlabel("images seen")
