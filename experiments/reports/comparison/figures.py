"""The figures of a comparison."""

import functools
from collections.abc import Callable

import numpy as np

from experiments.reports.comparison.numbers import (
    COMPUTE,
    Comparison,
    learning_curves,
    schedule_curves,
    with_schedules,
)
from experiments.reports.page import Drawing, Figure, plt
from vdm.evaluation.analysis.noise_levels import Profile
from vdm.runs.history import loss_range
from vdm.types import TERM_NAMES


def drawings(found: Comparison) -> dict[str, Drawing]:
    """{file stem: a function that draws it} of every figure there is something to draw for."""
    figures: dict[str, Callable[[Comparison], Figure]] = {"terms": _terms}
    if with_schedules(found):
        figures["schedules"] = _schedules
    if found.profiles:
        figures["profile"] = _profile
    if found.gap_profiles:
        figures["difference_profile"] = _difference_profile
    if found.grouped:
        figures["seeds"] = _seeds
    if any(len(learning_curves(run)["step"]) for run in found.runs.values()):
        figures["learning"] = _learning
    return {name: functools.partial(draw, found) for name, draw in figures.items()}


def _terms(found: Comparison) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.5 * len(found.runs)), layout="constrained")
    left = np.zeros(len(found.runs))
    for term in TERM_NAMES:
        values = [facts["bits_per_dim"][term]["mean"] for facts in found.facts.values()]
        if any(values):
            axes.barh(list(found.runs), values, left=left, label=term.replace("_", " "))
            left += values
    for row, facts in enumerate(found.facts.values()):
        if interval := facts["bits_per_dim"]["total"]["interval"]:
            axes.plot(interval, (row, row), color="black")
    axes.invert_yaxis()
    axes.set_xlabel("bits/dim; bars: 95 % over images, not of differences")
    figure.legend(ncols=4, loc="outside upper center")
    return figure


def _schedules(found: Comparison) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for colour, (name, run) in enumerate(with_schedules(found).items()):
        curves = schedule_curves(run)
        for axes, sign in ((left, 1.0), (right, -1.0)):
            for when, style in (("before", ":"), ("after", "-")):
                label = name if when == "after" else None
                values = curves[when] if sign > 0 else np.exp(-np.float64(curves[when]))
                axes.plot(curves["t"], values, style, color=f"C{colour}", label=label)
    left.set(xlabel="t", ylabel="γ(t)")
    right.set(xlabel="t", ylabel="SNR(t)", yscale="log")
    left.legend(title="dotted: before training")
    return figure


def _profile(found: Comparison) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, profile in found.profiles.items():
        plot_profile(axes, profile, name)
    axes.set(xlabel="γ", ylabel="bits/dim per unit of γ")
    axes.legend(title="bands: 95 % over images, bin by bin")
    return figure


def plot_profile(axes, profile: Profile, label: str, *, all_at_once: bool = False) -> None:
    """A step per bin, with its band: of each bin by itself, and of all bins at once."""
    (line,) = axes.step(
        profile.edges, [*profile.density, profile.density[-1]], where="post", label=label
    )
    bands = [(profile.pointwise, 0.3)] + ([(profile.simultaneous, 0.15)] if all_at_once else [])
    for reach, alpha in bands:
        low, high = profile.density - reach, profile.density + reach
        axes.fill_between(
            profile.edges,
            [*low, low[-1]],
            [*high, high[-1]],
            step="post",
            alpha=alpha,
            linewidth=0,
            color=line.get_color(),
        )


def _difference_profile(found: Comparison) -> Figure:
    first, count = next(iter(found.runs)), len(found.gap_profiles)
    figure, rows = plt.subplots(
        count, 1, figsize=(7, 0.6 + 2.3 * count), layout="constrained", sharex=True, squeeze=False
    )
    for axes, (name, profile) in zip(rows[:, 0], found.gap_profiles.items(), strict=True):
        plot_profile(axes, profile, f"{name} − {first}", all_at_once=True)
        axes.axhline(0.0, color="black", linewidth=0.8)
        band = found.bands[name]
        style = (
            {"color": "C3", "alpha": 0.12} if band.is_certain else {"hatch": "//", "alpha": 0.06}
        )
        axes.axvspan(band.low, band.high, **style, zorder=0)
        certain = "shaded" if band.is_certain else "hatched, not certain"
        axes.set_title(f"{name} − {first}; most of it: {certain}", fontsize="medium")
        axes.set_ylabel("bits/dim per γ")
    rows[-1, 0].set_xlabel("γ; bands: 95 % bin by bin, and (pale) of all bins at once")
    return figure


def _seeds(found: Comparison) -> Figure:
    assert found.grouped is not None
    labels = list(found.grouped.groups)
    figure, axes = plt.subplots(figsize=(7, 1.0 + 0.6 * len(labels)), layout="constrained")
    for row, (label, group) in enumerate(found.grouped.groups.items()):
        between = found.grouped.between[label, "total"]
        axes.plot(between.next_seed, (row, row), color=f"C{row}", alpha=0.3, linewidth=6)
        axes.plot(between.interval, (row, row), color=f"C{row}", linewidth=3)
        means = [found.facts[n]["bits_per_dim"]["total"]["mean"] for n in group.seeds.values()]
        axes.plot(means, [row] * len(means), "k|", markersize=12)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("total, bits/dim; ticks: seeds, 95 %: their mean (dark), the next seed (pale)")
    return figure


def _learning(found: Comparison) -> Figure:
    curves = {name: learning_curves(run) for name, run in found.runs.items()}
    drawn = {name: c for name, c in curves.items() if len(c["step"])}
    shown = [c for c in COMPUTE if all(np.all(np.isfinite(v[c])) for v in drawn.values())]
    figure, panels = plt.subplots(
        1, len(shown), figsize=(4 * len(shown), 3.6), layout="constrained", sharey=True
    )
    for axes, column in zip(panels, shown, strict=True):
        for name, values in drawn.items():
            axes.plot(values[column], values["train"], label=name)
        axes.set_xlabel(COMPUTE[column])
    panels[0].set_ylim(*loss_range([values["train"] for values in drawn.values()]))
    panels[0].set_ylabel("training loss, bits/dim")
    panels[0].legend()
    return figure
