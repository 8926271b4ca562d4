"""Figures of a comparison: which there are, their panels and legends; `vdm.plots` draws the axes."""

import functools
from collections.abc import Callable

import numpy as np

from experiments.reports.comparison.curves import (
    COMPUTE,
    learning_curves,
    schedule_curves,
    with_schedules,
)
from experiments.reports.comparison.numbers import Comparison
from experiments.reports.page import Drawing, Figure, plt
from vdm.plots import (
    plot_between_seeds,
    plot_learning,
    plot_profile,
    plot_profile_difference,
    plot_schedules,
    plot_terms,
)


def drawings(comparison: Comparison) -> dict[str, Drawing]:
    """Return {file stem: function that draws it} of every figure for which there are numbers."""
    figures: dict[str, Callable[[Comparison], Figure]] = {"terms": _terms}
    if with_schedules(comparison.runs):
        figures["schedules"] = _schedules
    if comparison.profiles:
        figures["profile"] = _profile
    if comparison.gap_profiles:
        figures["difference_profile"] = _difference_profile
    if comparison.grouped:
        figures["seeds"] = _seeds
    if any(len(learning_curves(run)["step"]) for run in comparison.runs.values()):
        figures["learning"] = _learning
    return {name: functools.partial(draw, comparison) for name, draw in figures.items()}


def _terms(comparison: Comparison) -> Figure:
    """Draw the terms of every run, stacked."""
    size = (7, 0.8 + 0.5 * len(comparison.runs))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    plot_terms(axes, {name: f["bits_per_dim"] for name, f in comparison.facts.items()})
    figure.legend(ncols=4, loc="outside upper center")
    return figure


def _schedules(comparison: Comparison) -> Figure:
    """Draw gamma(t) and SNR(t) of every run before and after training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    curves = {}
    for name, run in with_schedules(comparison.runs).items():
        columns = schedule_curves(run)
        gammas = {f"gamma_{when}": columns[when] for when in ("before", "after")}
        # In double precision: exp(-gamma) of steep schedules spans many orders of magnitude.
        snr = {f"snr_{w}": np.exp(-np.float64(columns[w])) for w in ("before", "after")}
        curves[name] = {"t": columns["t"], **gammas, **snr}
    plot_schedules(left, curves, "gamma")
    plot_schedules(right, curves, "snr")
    left.legend(title="dotted: before training")
    return figure


def _profile(comparison: Comparison) -> Figure:
    """Draw the denoising term of every run per unit of gamma."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, profile in comparison.profiles.items():
        plot_profile(axes, profile, name)
    axes.legend(title="bands: 95 % over images, bin by bin")
    return figure


def _difference_profile(comparison: Comparison) -> Figure:
    """Draw the differences from the first run per unit of gamma, a panel each."""
    first, count = next(iter(comparison.runs)), len(comparison.gap_profiles)
    figure, rows = plt.subplots(
        count, 1, figsize=(7, 0.6 + 2.3 * count), layout="constrained", sharex=True, squeeze=False
    )
    for axes, (name, profile) in zip(rows[:, 0], comparison.gap_profiles.items(), strict=True):
        plot_profile_difference(axes, profile, comparison.bands[name], f"{name} − {first}")
    rows[-1, 0].set_xlabel("γ; bands: 95 % bin by bin, and (pale) of all bins at once")
    return figure


def _seeds(comparison: Comparison) -> Figure:
    """Draw the totals of every group of seeds."""
    assert comparison.grouped is not None
    groups = comparison.grouped.groups
    size = (7, 1.0 + 0.6 * len(groups))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    between = {label: comparison.grouped.between[label, "total"] for label in groups}
    means = {name: f["bits_per_dim"]["total"]["mean"] for name, f in comparison.facts.items()}
    totals = {
        label: [means[run] for run in group.seeds.values()] for label, group in groups.items()
    }
    plot_between_seeds(axes, between, totals)
    return figure


def _learning(comparison: Comparison) -> Figure:
    """Draw training losses against each amount of compute."""
    curves = {name: learning_curves(run) for name, run in comparison.runs.items()}
    logged = {name: columns for name, columns in curves.items() if len(columns["step"])}
    # A run whose FLOPs XLA does not count would leave a panel without its line.
    amounts = [a for a in COMPUTE if all(np.all(np.isfinite(c[a])) for c in logged.values())]
    size = (4 * len(amounts), 3.6)
    figure, panels = plt.subplots(
        1, len(amounts), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, amount in zip(panels[0], amounts, strict=True):
        plot_learning(axes, logged, amount=amount)
        axes.set_xlabel(COMPUTE[amount])
    panels[0][0].set_ylabel("training loss, bits/dim")
    panels[0][0].legend()
    return figure
