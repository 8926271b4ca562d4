"""One number per pixel, as a coloured map."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_map(
    axes: "Axes",
    values: np.ndarray,
    *,
    colours: str = "viridis",
    limits: tuple[float, float] | None = None,
    colorbar_height: float = 0.8,
) -> None:
    """Draw a map [H,W] of pixels with a colour bar of its own.

    Args:
      axes: where to draw; the colour bar takes a part of their width.
      values: one number per pixel [H,W], such as bits or gamma.
      colours: name of a matplotlib colour map.
      limits: values of the lowest and highest colour, to share a scale between maps; None = the
        map's own extremes.
      colorbar_height: height of the colour bar as a fraction of the axes'.
    """
    low, high = limits if limits is not None else (None, None)
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high)
    axes.set(xticks=[], yticks=[])
    # Through the figure of these axes, which need not be pyplot's current one.
    axes.figure.colorbar(image, ax=axes, shrink=colorbar_height)
