"""Figures of where the bits arise: their panels and legends; `vdm.plots` draws the axes."""

import functools
from collections.abc import Mapping

import numpy as np

from experiments.reports.page import Drawing, Figure, plt
from vdm.evaluation.analysis import breakdown
from vdm.evaluation.analysis.breakdown import MAPPED, Breakdown
from vdm.evaluation.analysis.extremes import Extremes
from vdm.evaluation.analysis.noise_levels import profile
from vdm.evaluation.statistics.estimate import Estimate
from vdm.plots import plot_estimates, plot_image, plot_map, plot_profile
from vdm.plots.images import codes_to_bytes


def drawings(
    analysis: Breakdown,
    labels: np.ndarray | None,
    extremes: Extremes,
    images: np.ndarray,
    num_levels: int,
) -> dict[str, Drawing]:
    """Return {file stem: function that draws it} of every figure for which there are numbers.

    Args:
      analysis: the bits.
      labels: class of every image [N]; None without classes.
      extremes: easiest and hardest images.
      images: the evaluated images, integers [N,H,W,C].
      num_levels: number of levels per channel.
    """
    figures: dict[str, Drawing] = {
        "profile": functools.partial(_profile, analysis),
        "maps": functools.partial(_maps, analysis),
    }
    total = analysis.evaluation.estimate().mean
    # With a single channel the figure would repeat the total.
    if analysis.channels.shape[2] > 1:
        channels = dict(enumerate(analysis.per_channel()))
        figures["channels"] = functools.partial(_estimates, "channel", channels, total)
    if labels is not None:
        rows = breakdown.per_class(analysis.evaluation, labels)
        classes = {label: estimate for label, (_, estimate) in rows.items()}
        figures["classes"] = functools.partial(_estimates, "class", classes, total)
    for name in ("easiest", "hardest"):
        chosen = getattr(extremes, name)
        tiles = codes_to_bytes(images[chosen], num_levels)
        figures[name] = functools.partial(_grid, tiles, chosen, extremes)
    return figures


def _profile(analysis: Breakdown) -> Figure:
    """Draw the denoising term per unit of gamma."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    plot_profile(axes, profile(analysis.binned), "denoising matching", all_at_once=True)
    axes.legend(title="bands: 95 % bin by bin,\nand (pale) of all bins at once")
    return figure


def _maps(analysis: Breakdown) -> Figure:
    """Draw the bits of every pixel: a row of maps per channel, a column per term."""
    depth = analysis.channels.shape[2]
    figure, rows = plt.subplots(
        depth,
        len(MAPPED),
        figsize=(3.2 * len(MAPPED), 0.4 + 2.6 * depth),
        layout="constrained",
        squeeze=False,
    )
    for column, name in enumerate(MAPPED):
        bits = analysis.maps[name].bits
        # One scale for all channels of a term, so that colours compare.
        limits = (bits.min(), bits.max())
        for channel in range(depth):
            axes = rows[channel, column]
            plot_map(axes, bits[..., channel], limits=limits, colorbar_height=0.85)
            label = f", channel {channel}" if depth > 1 else ""
            axes.set_title(f"{name.replace('_', ' ')}{label}", fontsize="medium")
    figure.supxlabel("bits per dimension; a map's mean is its term")
    return figure


def _estimates(what: str, estimates: Mapping[int, Estimate], total: float) -> Figure:
    """Draw estimates per channel or class; `what` names which."""
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    plot_estimates(axes, estimates, total)
    axes.set_xlabel(what)
    axes.legend()
    return figure


def _grid(tiles: np.ndarray, chosen: np.ndarray, extremes: Extremes) -> Figure:
    """Draw images [N,H,W,C] with their bits/dim; `chosen` has their indices [N] in the split."""
    # At most eight in a row, so that the titles stay legible.
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, places = plt.subplots(
        rows, columns, figsize=(1.15 * columns, 1.5 * rows), layout="constrained", squeeze=False
    )
    # Places of the last row that no image fills.
    for axes in places.flat:
        axes.set_axis_off()
    for axes, tile, index in zip(places.flat, tiles, chosen.tolist(), strict=False):
        error = f" ± {extremes.error[index]:.2f}" if extremes.error else ""
        plot_image(axes, tile, f"{extremes.bits[index]:.2f}{error}")
    return figure
