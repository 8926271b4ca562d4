"""Report on the schedules of several runs: their curves, and the variance and signal they lead to."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.reports import page
from experiments.reports.page import Drawing, Figure, plt
from experiments.reports.schedule_numbers import Measured, gains_over
from experiments.reports.tables import Table, to_html
from vdm.evaluation.analysis import estimator_variance
from vdm.evaluation.statistics.jackknife import Interval
from vdm.plots import plot_bars, plot_drawn_gammas, plot_gamma_density, plot_schedules
from vdm.runs.history import Curves, drawn_gammas

_CAPTIONS = {
    "curves": "γ(t), SNR(t) and dγ/dt; dotted: before training",
    "density": "The density of γ that times are drawn with, at the start (dotted) and at the end",
    "drawn": "The γ that training drew: median, half and nine tenths of them",
    "variance": "Variance of the bound's estimate given the image, (bits/dim)², 95 %",
    "signal": "Signal-to-noise of one training step's gradient, |E g|²/tr Cov, 95 %",
}
_MEANING = (
    "iid: one uniform time per image, independent. stratified: one time in each stratum of the batch, "
    "as training and evaluation draw them; most of what a shape can save is then already saved. "
    "A gain of 4 means a variance 4 times smaller. 'Straight' is the log-SNR line between the same end "
    "points with the same denoiser, so its gain is the shape's alone; the gain over the first run also "
    "holds what training made of the denoiser and of learned end points. Intervals: 95 %, jackknife "
    "over images (iid) or batches (stratified); they hold for these networks, not for other seeds."
)


def write(out: Path, measured: Sequence[Measured], facts: str) -> Path:
    """Write index.html, *.png, *.pdf, *.csv and *.tex into `out`.

    Args:
      out: the folder.
      measured: the runs; the first is the one that the others are compared with.
      facts: images, draws, seed and checkpoint steps, for the reader.

    Returns:
      The path of index.html.
    """
    shown = {"variance": variances(measured), "signal": signals(measured)}
    shown = {name: table for name, table in shown.items() if table.rows}

    figures = page.render(_drawings(measured))
    # In the order of _CAPTIONS, which goes from the schedules to what they change.
    parts = [page.paragraph(facts, "facts")]
    for name, caption in _CAPTIONS.items():
        if name not in figures:
            continue
        table = [to_html(shown[name])] if name in shown else []
        parts.append(page.section(caption, page.picture(figures[name]["png"], caption), *table))
        if name == "variance":
            parts.append(page.paragraph(_MEANING))

    # The curves have hundreds of rows: CSV alone.
    document = page.document(f"Schedules of {len(measured)} runs", parts)
    tables = {**shown, "curves": _curves(measured)}
    return page.write(out, document, tables, figures, facts, shown)


def variances(measured: Sequence[Measured]) -> Table:
    """Return a row per run and way to draw times: variances in (bits/dim)^2 and their ratios."""
    # Both ratios: over the line with the same denoiser, and over the first run with its own denoiser.
    gains = ("gain_over_straight", "gain_95", "gain_over_first_run", "gain_over_first_95")
    columns = ("run", "times", "bits_per_dim", "variance", "variance_95", *gains)
    rows: list[tuple] = []
    for times in estimator_variance.TIMES:
        first = gains_over(measured[0], measured, times)
        for one in measured:
            mean = float(one.scatters["model", times].means.mean())
            entries = (one.variance(times), one.gain(times), first[one.run.name])
            rows.append((one.run.name, times, mean, *(v for e in entries for v in _cells(e))))
    return Table(columns, rows)


def signals(measured: Sequence[Measured]) -> Table:
    """Return a row per run and parameter group: signal-to-noise ratios; no rows if not measured."""
    rows = [
        (one.run.name, group, *_cells(value))
        for one in measured
        for group, value in one.signal.items()
    ]
    return Table(("run", "group", "signal_to_noise", "signal_to_noise_95"), rows)


def _cells(value: Interval) -> tuple[float, tuple[float, float]]:
    """Return a number and its interval as two cells of a table."""
    return value.value, (value.low, value.high)


def _curves(measured: Sequence[Measured]) -> Table:
    """Return a row per run and time, with every column of its curves."""
    names = list(measured[0].curves)
    rows = [
        (one.run.name, *values)
        for one in measured
        for values in zip(*(one.curves[name] for name in names), strict=True)
    ]
    return Table(("run", *names), rows)


def _drawings(measured: Sequence[Measured]) -> dict[str, Drawing]:
    """Return {file stem: function that draws it} of every figure for which there are numbers."""
    drawings: dict[str, Drawing] = {
        "curves": functools.partial(_draw_curves, measured),
        "density": functools.partial(_draw_density, measured),
        "variance": functools.partial(_draw_variance, measured),
    }
    # Empty for runs whose revision did not yet log the drawn gammas.
    logged = {one.run.name: drawn_gammas(one.run.folder) for one in measured}
    if logged := {name: curves for name, curves in logged.items() if len(curves["images"])}:
        drawings["drawn"] = functools.partial(_draw_drawn, logged)
    if any(one.signal for one in measured):
        drawings["signal"] = functools.partial(_draw_signal, measured)
    return drawings


def _draw_curves(measured: Sequence[Measured]) -> Figure:
    """Draw gamma(t), SNR(t) and d gamma/dt of all runs."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    curves = {one.run.name: one.curves for one in measured}
    for axes, quantity in zip(panels, ("gamma", "snr", "slope"), strict=True):
        plot_schedules(axes, curves, quantity)
    panels[0].legend(fontsize="small")
    return figure


def _draw_density(measured: Sequence[Measured]) -> Figure:
    """Draw the density of gamma that training draws from, of all runs."""
    figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
    plot_gamma_density(axes, {one.run.name: one.curves for one in measured})
    axes.legend(fontsize="small")
    return figure


def _draw_drawn(logged: Mapping[str, Curves]) -> Figure:
    """Draw the gammas that training drew, a panel per run on one vertical axis."""
    size = (1.0 + 3.2 * len(logged), 3.8)
    figure, panels = plt.subplots(
        1, len(logged), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, (name, curves) in zip(panels[0], logged.items(), strict=True):
        plot_drawn_gammas(axes, curves)
        axes.set_title(name)
    panels[0][0].set_ylabel("γ")
    return figure


def _draw_variance(measured: Sequence[Measured]) -> Figure:
    """Draw the variance of the bound, a panel per way to draw times."""
    size = (9, 1.2 + 0.3 * len(measured))
    figure, panels = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    for axes, times in zip(panels, estimator_variance.TIMES, strict=True):
        plot_bars(axes, {one.run.name: one.variance(times) for one in measured})
        axes.set(xlabel=f"variance, {times} times, (bits/dim)²")
    return figure


def _draw_signal(measured: Sequence[Measured]) -> Figure:
    """Draw the signal-to-noise ratios, a panel per parameter group: their scales differ."""
    # In the order of first mention; runs with fixed schedules lack the schedule's group.
    groups = list(dict.fromkeys(group for one in measured for group in one.signal))
    size = (4.0 * len(groups), 1.2 + 0.3 * len(measured))
    figure, panels = plt.subplots(1, len(groups), figsize=size, layout="constrained", squeeze=False)
    for axes, group in zip(panels[0], groups, strict=True):
        plot_bars(
            axes, {one.run.name: one.signal[group] for one in measured if group in one.signal}
        )
        axes.set(xlabel=group)
    return figure
