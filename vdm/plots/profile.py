"""Density of the denoising term over noise levels gamma, for one run and for a difference of two."""

from typing import TYPE_CHECKING, Any

from vdm.evaluation.analysis.noise_levels import Band, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_profile(axes: "Axes", profile: Profile, label: str, *, all_at_once: bool = False) -> None:
    """Draw bits/dim per unit of gamma as a step per bin, with its 95 % band.

    Args:
      axes: where to draw; called several times, it overlays several runs.
      profile: the density in K bins of gamma and its errors, see
        `vdm.evaluation.analysis.noise_levels.profile`.
      label: the line's name in the legend.
      all_at_once: whether to add, paler, the band that covers all bins simultaneously.
    """
    # A step needs K + 1 values for K + 1 edges: the last bin's value is repeated at its right edge.
    (line,) = axes.step(
        profile.edges, [*profile.density, profile.density[-1]], where="post", label=label
    )
    bands = [(profile.pointwise, 0.3)] + ([(profile.simultaneous, 0.15)] if all_at_once else [])
    for half_width, alpha in bands:
        low, high = profile.density - half_width, profile.density + half_width
        axes.fill_between(
            profile.edges,
            [*low, low[-1]],
            [*high, high[-1]],
            step="post",
            alpha=alpha,
            linewidth=0,
            color=line.get_color(),
        )
    axes.set(xlabel="γ", ylabel="bits/dim per unit of γ")


def plot_profile_difference(axes: "Axes", profile: Profile, band: Band, label: str) -> None:
    """Draw a profile of the difference of two runs, and the band of gamma with most of it.

    The band is shaded where its interval excludes zero and hatched where it does not.

    Args:
      axes: where to draw.
      profile: the difference per unit of gamma, with both of its 95 % bands.
      band: what `vdm.evaluation.analysis.noise_levels.decisive_band` gives for the same difference.
      label: the two runs, such as "learned − linear".
    """
    plot_profile(axes, profile, label, all_at_once=True)
    axes.axhline(0.0, color="black", linewidth=0.8)

    style: dict[str, Any] = {"hatch": "//", "alpha": 0.06}
    if band.is_certain:
        style = {"color": "C3", "alpha": 0.12}
    # Behind the curve: the band is wide and would cover it.
    axes.axvspan(band.low, band.high, **style, zorder=0)

    certainty = "shaded" if band.is_certain else "hatched, not certain"
    axes.set_title(f"{label}; most of it: {certainty}", fontsize="medium")
    axes.set(xlabel="", ylabel="bits/dim per γ")
