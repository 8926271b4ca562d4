"""Information that the context of each image carries."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_context_kl(axes: "Axes", bits: np.ndarray) -> None:
    """Draw a histogram of KL(q(c|x) || p(c)) over images, with their mean as a dotted line.

    Args:
      axes: where to draw.
      bits: the divergence of every image in bits (not bits/dim) [N].
    """
    axes.hist(bits, bins=30)
    axes.axvline(bits.mean(), color="black", linestyle=":")
    axes.set(xlabel="KL(q(c|x) ‖ p(c)), bits per image", ylabel="images")
