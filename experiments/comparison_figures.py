"""The figures of a comparison, as PNG."""

import functools
import io
from collections.abc import Callable

import matplotlib
import numpy as np

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments.comparison import Comparison, learning_curves, schedule_curves
from vdm.objective import TERM_NAMES


def drawings(found: Comparison) -> dict[str, Callable[[], bytes]]:
    """{file stem: a function that draws the PNG} of every figure there is something to draw for."""
    figures: dict[str, Callable[[Comparison], Figure]] = {"terms": _terms, "schedules": _schedules}
    if found.profiles:
        figures["profile"] = _profile
    if any(len(learning_curves(run)["step"]) for run in found.runs.values()):
        figures["learning"] = _learning
    return {name: functools.partial(_png, draw, found) for name, draw in figures.items()}


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
    for colour, (name, run) in enumerate(found.runs.items()):
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
        middle = 0.5 * (profile.edges[1:] + profile.edges[:-1])
        (line,) = axes.plot(middle, profile.density, label=name)
        band = 1.96 * profile.standard_error
        axes.fill_between(
            middle,
            profile.density - band,
            profile.density + band,
            alpha=0.2,
            color=line.get_color(),
        )
    axes.set(xlabel="γ", ylabel="bits/dim per unit of γ")
    axes.legend(title="bands: 95 % over images")
    return figure


def _learning(found: Comparison) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    lowest, highest = [], []
    for name, run in found.runs.items():
        curves = learning_curves(run)
        if not len(curves["step"]):
            continue
        for axes, column in zip(panels, ("images", "seconds"), strict=True):
            axes.plot(curves[column], curves["train"], label=name)
        lowest.append(curves["train"].min())
        highest.append(np.quantile(curves["train"], 0.9))
    panels[0].set(xlabel="images seen", ylabel="training loss, bits/dim")
    panels[1].set(xlabel="seconds of training")
    # The first steps are far above and would flatten the rest.
    panels[0].set_ylim(0.98 * min(lowest), 1.05 * max(highest))
    panels[0].legend()
    return figure


def _png(draw: Callable[[Comparison], Figure], found: Comparison) -> bytes:
    figure, file = draw(found), io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    plt.close(figure)
    return file.getvalue()
