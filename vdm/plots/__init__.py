"""Figures of evaluations, runs and schedules, as functions that draw on matplotlib axes.

Every function is called as `plot_x(axes, data, ...)`, draws the data, sets the axis labels and, where
the figure needs them, scales and limits, and returns nothing. The figure, its legend and the file are
made by the caller, so that one function serves a page, a paper and a notebook:

    import matplotlib.pyplot as plt
    import vdm.runs
    from vdm.plots import plot_terms

    evaluated = vdm.runs.open("runs/digits").evaluate("test")
    figure, axes = plt.subplots()
    plot_terms(axes, {"digits": evaluated.bits_per_dim})
    axes.legend()

No module here imports matplotlib: who passes axes has it already.
"""

from vdm.plots.contexts import plot_context_kl
from vdm.plots.drawn_gammas import plot_drawn_gammas
from vdm.plots.estimates import plot_bars, plot_estimates
from vdm.plots.images import plot_image, plot_images
from vdm.plots.learning import plot_learning
from vdm.plots.maps import plot_map
from vdm.plots.paths import plot_curl, plot_path_terms
from vdm.plots.profile import plot_profile, plot_profile_difference
from vdm.plots.schedules import plot_gamma_density, plot_schedules
from vdm.plots.seeds import plot_between_seeds, plot_values_per_seed
from vdm.plots.terms import plot_terms

__all__ = [
    "plot_terms",
    "plot_profile",
    "plot_profile_difference",
    "plot_estimates",
    "plot_bars",
    "plot_between_seeds",
    "plot_values_per_seed",
    "plot_learning",
    "plot_schedules",
    "plot_gamma_density",
    "plot_drawn_gammas",
    "plot_map",
    "plot_context_kl",
    "plot_image",
    "plot_images",
    "plot_curl",
    "plot_path_terms",
]
