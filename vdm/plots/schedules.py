"""Noise schedules before and after training: gamma(t), SNR(t), d gamma/dt and the density of gamma."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, np.ndarray]

LABELS = {"gamma": "γ(t)", "snr": "SNR(t)", "slope": "dγ/dt"}
STYLES = {"before": ":", "after": "-"}


def plot_schedules(axes: "Axes", curves: Mapping[str, Curves], quantity: str = "gamma") -> None:
    """Draw a quantity of every schedule against t; dotted before training, solid after.

    Args:
      axes: where to draw; the vertical axis is logarithmic but for gamma.
      curves: {run: columns "t", "QUANTITY_before" and "QUANTITY_after"}, [points] each; either of the
        last two may be missing.
      quantity: "gamma", "snr" = exp(-gamma), or "slope" = d gamma/dt.
    """
    for number, (name, columns) in enumerate(curves.items()):
        _plot_both(axes, columns, ("t", quantity), f"C{number}", name)
    scale = "linear" if quantity == "gamma" else "log"
    axes.set(xlabel="t", ylabel=LABELS[quantity], yscale=scale)


def plot_gamma_density(axes: "Axes", curves: Mapping[str, Curves]) -> None:
    """Draw the density of gamma that training times are drawn with; dotted at the start, solid after.

    For times drawn uniformly it is 1/(d gamma/dt), otherwise p(t)/(d gamma/dt).

    Args:
      axes: where to draw.
      curves: {run: columns "gamma_before", "density_before", "gamma_after", "density_after"}; the two
        of either time may be missing.
    """
    for number, (name, columns) in enumerate(curves.items()):
        _plot_both(axes, columns, ("gamma", "density"), f"C{number}", name)
    axes.set(xlabel="γ", ylabel="density of γ")


def _plot_both(
    axes: "Axes", columns: Curves, names: tuple[str, str], colour: str, label: str
) -> None:
    """Draw column `names[1]` against `names[0]`, before and after training."""
    for when, style in STYLES.items():
        x, y = (name if name == "t" else f"{name}_{when}" for name in names)
        if y in columns:
            # One entry of the legend per run, on its solid line.
            shown = label if when == "after" else None
            axes.plot(columns[x], columns[y], style, color=colour, label=shown)
