"""Paths of the noise levels of two pixels, the curl of their loss, and the bound along each path."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURL_SCALE = 1e-3


def plot_curl(
    axes: "Axes", gamma: np.ndarray, curl: np.ndarray, paths: Mapping[str, np.ndarray]
) -> None:
    """Draw the curl of the loss in the plane of two gammas, and paths over it.

    Where the curl is zero the bound does not depend on the path.

    Args:
      axes: where to draw; a colour bar takes a part of their width.
      gamma: the grid of either pixel's gamma [N].
      curl: df_2/dgamma_1 - df_1/dgamma_2 in nats per squared unit of gamma [N,N]; rows are pixel 2.
      paths: {label: points (gamma_1, gamma_2) [P,2]}.
    """
    # asinh is linear near 0 and logarithmic on both sides, so that both signs and small values show.
    scaled = np.arcsinh(curl / CURL_SCALE)
    # Rasterised: in a PDF every cell would be a polygon of its own.
    image = axes.pcolormesh(gamma, gamma, scaled, cmap="RdBu", vmin=-8, vmax=8, rasterized=True)
    for number, (label, points) in enumerate(paths.items()):
        axes.plot(points[:, 0], points[:, 1], color=f"C{number}", label=label)
    axes.set(xlabel="γ of pixel 1", ylabel="γ of pixel 2")
    axes.figure.colorbar(image, ax=axes, label="asinh(1000 curl)")


def plot_path_terms(
    axes: "Axes", nats: Mapping[str, Mapping[str, float]], mutual_information: float
) -> None:
    """Draw the denoising term along every path, a bar per denoiser, beside its closed form.

    Args:
      axes: where to draw; one row per path, the first on top.
      nats: {denoiser: {path: denoising term}}, nats.
      mutual_information: I(x; z_0) - I(x; z_1), the term of a posterior mean on any path, nats.
    """
    paths = list(next(iter(nats.values())))
    place = np.arange(len(paths))
    for number, (denoiser, terms) in enumerate(nats.items()):
        values = [terms[path] for path in paths]
        bars = axes.barh(place + 0.4 * number, values, height=0.38, label=denoiser)
        axes.bar_label(bars, fmt="%.2f", fontsize="small")
    # The middle of a pair of bars.
    axes.set_yticks(place + 0.2, paths)
    label = "I(x; z_0) − I(x; z_1)"
    axes.axvline(mutual_information, color="black", linestyle=":", label=label)
    # Room on the right for the numbers at the bars' ends.
    highest = max(max(terms.values()) for terms in nats.values())
    axes.set(xlabel="denoising term, nats", xlim=(0, 1.25 * highest))
    axes.invert_yaxis()
