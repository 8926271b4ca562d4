"""Where the bits go, on disk: one page, and the figures, tables and maps beside it."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reports import page
from experiments.reports.page import Drawing, Figure, plt
from experiments.reports.tables import Table, to_html
from vdm.data import Dataset
from vdm.data.batches import eval_batches
from vdm.evaluation.analysis import breakdown
from vdm.evaluation.analysis.breakdown import MAPPED, Breakdown, Extremes
from vdm.evaluation.analysis.noise_levels import profile
from vdm.evaluation.evaluate import Estimation
from vdm.evaluation.statistics.estimate import Estimate
from vdm.plots import plot_estimates, plot_image, plot_map, plot_profile
from vdm.plots.images import codes_to_bytes
from vdm.runs import record
from vdm.runs.folder import write_arrays, write_json
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.types import Params

NUM_EXTREMES = 16
_CAPTIONS = {
    "profile": "Per unit of γ",
    "maps": "Per pixel",
    "channels": "Per channel",
    "classes": "Per class",
    "easiest": "The easiest images",
    "hardest": "The hardest images",
}


def break_down(
    parts: Parts, params: Params, split: str, estimation: Estimation, check: Callable[[], None]
) -> Breakdown:
    """One pass over `split`, with progress; `check` may raise to stop it within a batch."""
    batches = list(eval_batches(parts.dataset, split, parts.config["evaluate"]["batch_size"]))
    count = len(batches) * estimation.randomisations
    with Progress(f"breaking down {split}", count, "batches") as bar:
        tell = evaluation_progress(bar, check)
        return breakdown.break_down(parts.model, params, batches, estimation, parts.mesh, tell)


def labels_of(dataset: Dataset, split: str) -> np.ndarray | None:
    """The class of every image of `split` [N]; None where the data have no classes."""
    return getattr(dataset, "labels", {}).get(split)


def write(
    out: Path, dataset: Dataset, split: str, found: Breakdown, facts: Mapping[str, Any]
) -> Path:
    """Writes everything into `out`; returns the page."""
    labels, extremes = labels_of(dataset, split), breakdown.extremes(found.evaluation, NUM_EXTREMES)
    tables = _tables(found, labels, extremes)
    images = dataset.split(split)
    levels = dataset.spec.num_levels
    figures = page.render(_drawings(found, labels, extremes, images, levels))
    write_arrays(out / "maps.npz", _arrays(found))
    write_json(out / "record.json", facts)
    lines = record.format_report(facts).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("total")) + 1
    described = "\n".join(lines[start:])
    shown = {n: t for n, t in tables.items() if n in ("terms", "channels", "classes")}
    parts = [page.paragraph(line, "facts") for line in described.splitlines()]
    parts.append(page.section("Terms", to_html(tables["terms"]), _WHOLE))
    for name, kinds in figures.items():
        contents = [page.picture(kinds["png"], _CAPTIONS[name])]
        contents += [to_html(tables[name])] if name in shown else []
        contents += [_EXTREMES] if name == "hardest" else []
        parts.append(page.section(_CAPTIONS[name], *contents))
    content = page.document(f"Where the bits go: {dataset.spec.name}, {split}", parts)
    return page.write(out, content, tables, figures, described, shown)


_WHOLE = page.paragraph(
    "Below, the same bits in parts: the integral over γ is the denoising term, the mean of a map its "
    "term, and the mean over channels, over images, and over classes weighted by their images, the "
    "total.",
    "facts",
)
_EXTREMES = page.paragraph(
    "Chosen by every other randomisation, valued in bits/dim by the rest, so that no image is shown "
    "with the noise that chose it; ± one Monte Carlo standard error.",
    "facts",
)


def _tables(found: Breakdown, labels: np.ndarray | None, extremes: Extremes) -> dict[str, Table]:
    names = ("bits_per_dim", "low_95", "high_95", "monte_carlo_error")
    terms = (*found.evaluation.terms, "total")
    tables = {
        "terms": Table(("term", *names), [(n, *_row(found.evaluation.estimate(n))) for n in terms]),
        "channels": Table(
            ("channel", *names), [(n, *_row(row)) for n, row in enumerate(found.per_channel())]
        ),
    }
    curve = profile(found.binned)
    rows = zip(
        curve.edges[:-1],
        curve.edges[1:],
        curve.density,
        curve.pointwise,
        curve.simultaneous,
        strict=True,
    )
    columns = ("bits_per_dim_per_gamma", "half_width_95", "half_width_95_all_bins")
    tables["profile"] = Table(("gamma_low", "gamma_high", *columns), list(rows))
    if labels is not None:
        classes = breakdown.per_class(found.evaluation, labels)
        tables["classes"] = Table(
            ("class", "images", *names),
            [(label, count, *_row(row)) for label, (count, row) in classes.items()],
        )
    chosen = extremes.bits.items()
    error = extremes.error or {}
    tables["images"] = Table(
        ("index", "bits_per_dim", "monte_carlo_error"),
        [(index, bits, error.get(index)) for index, bits in chosen],
    )
    return tables


def _row(row) -> tuple:
    return (row.mean, *(row.interval or (None, None)), row.monte_carlo_error)


def _arrays(found: Breakdown) -> dict[str, np.ndarray]:
    """Bits per dimension of every pixel and channel, by term, and their standard errors."""
    arrays = {name: found.maps[name].bits for name in MAPPED}
    errors = {f"{name}_error": found.maps[name].standard_error for name in MAPPED}
    return {**arrays, **{n: e for n, e in errors.items() if e is not None}}


def _drawings(
    found: Breakdown, labels: np.ndarray | None, extremes: Extremes, images: np.ndarray, levels: int
) -> dict[str, Drawing]:
    drawings: dict[str, Drawing] = {
        "profile": functools.partial(_profile, found),
        "maps": functools.partial(_maps, found),
    }
    total = found.evaluation.estimate().mean
    if found.channels.shape[2] > 1:
        channels = dict(enumerate(found.per_channel()))
        drawings["channels"] = functools.partial(_estimates, "channel", channels, total)
    if labels is not None:
        rows = breakdown.per_class(found.evaluation, labels)
        classes = {label: estimate for label, (_, estimate) in rows.items()}
        drawings["classes"] = functools.partial(_estimates, "class", classes, total)
    for name in ("easiest", "hardest"):
        chosen = getattr(extremes, name)
        tiles = codes_to_bytes(images[chosen], levels)
        drawings[name] = functools.partial(_grid, tiles, chosen, extremes)
    return drawings


def _profile(found: Breakdown) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    plot_profile(axes, profile(found.binned), "denoising matching", all_at_once=True)
    axes.legend(title="bands: 95 % bin by bin,\nand (pale) of all bins at once")
    return figure


def _maps(found: Breakdown) -> Figure:
    """A row per channel, a column per term; bits of a dimension."""
    depth = found.channels.shape[2]
    figure, rows = plt.subplots(
        depth,
        len(MAPPED),
        figsize=(3.2 * len(MAPPED), 0.4 + 2.6 * depth),
        layout="constrained",
        squeeze=False,
    )
    for column, name in enumerate(MAPPED):
        bits = found.maps[name].bits
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
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    plot_estimates(axes, estimates, total)
    axes.set_xlabel(what)
    axes.legend()
    return figure


def _grid(tiles: np.ndarray, chosen: np.ndarray, extremes: Extremes) -> Figure:
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, places = plt.subplots(
        rows, columns, figsize=(1.15 * columns, 1.5 * rows), layout="constrained", squeeze=False
    )
    for axes in places.flat:
        axes.set_axis_off()
    for axes, tile, index in zip(places.flat, tiles, chosen.tolist(), strict=False):
        error = f" ± {extremes.error[index]:.2f}" if extremes.error else ""
        plot_image(axes, tile, f"{extremes.bits[index]:.2f}{error}")
    return figure
