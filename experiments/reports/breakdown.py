"""Report on where the bits of a run arise: by noise level, pixel, channel, class and image.

One pass over a split gives the numbers, see `vdm.evaluation.analysis.breakdown`; the report is one page
with figures and tables, the maps as arrays and the record of the evaluation.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reports import breakdown_figures, page
from experiments.reports.tables import Table, to_html
from vdm.data import Dataset
from vdm.data.batches import eval_batches
from vdm.evaluation.analysis import breakdown
from vdm.evaluation.analysis.breakdown import MAPPED, Breakdown
from vdm.evaluation.analysis.extremes import Extremes, find_extremes
from vdm.evaluation.analysis.noise_levels import profile
from vdm.evaluation.evaluate import Estimation
from vdm.evaluation.statistics.estimate import Estimate
from vdm.runs import record
from vdm.runs.folder import write_arrays, write_json
from vdm.runs.parts import Parts
from vdm.runs.progress import Progress, evaluation_progress
from vdm.types import Params

NUM_EXTREMES = 16
"""Easiest and hardest images shown, each."""
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
    """Evaluate a split once and keep its bits by gamma, dimension and image.

    Args:
      parts: model, data and mesh of the run.
      params: its parameters.
      split: which images.
      estimation: T, times per image, randomisations and seed.
      check: called between batches; may raise to stop.
    """
    batches = list(eval_batches(parts.dataset, split, parts.config["evaluate"]["batch_size"]))
    count = len(batches) * estimation.randomisations
    with Progress(f"breaking down {split}", count, "batches") as bar:
        report = evaluation_progress(bar, check)
        return breakdown.break_down(parts.model, params, batches, estimation, parts.mesh, report)


def labels_of(dataset: Dataset, split: str) -> np.ndarray | None:
    """Return the class of every image of `split` [N]; None where the data have no classes."""
    return getattr(dataset, "labels", {}).get(split)


def write(
    out: Path, dataset: Dataset, split: str, analysis: Breakdown, facts: Mapping[str, Any]
) -> Path:
    """Write the report into `out`.

    Args:
      out: the folder.
      dataset: the data, for the pictures of images and their classes.
      split: which images were evaluated.
      analysis: what `break_down` returned.
      facts: the record of the evaluation, see `vdm.runs.record.describe`.

    Returns:
      The path of index.html.
    """
    labels = labels_of(dataset, split)
    extremes = find_extremes(analysis.evaluation, NUM_EXTREMES)
    tables = _tables(analysis, labels, extremes)
    # The evaluation has indices; the pictures come from the data.
    images = dataset.split(split)
    num_levels = dataset.spec.num_levels
    figures = page.render(
        breakdown_figures.drawings(analysis, labels, extremes, images, num_levels)
    )

    # Before the page, which tells its reader of them.
    write_arrays(out / "maps.npz", _arrays(analysis))
    write_json(out / "record.json", facts)

    # The table of terms has a section of its own: of the report, the facts after it are shown here.
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


def _tables(analysis: Breakdown, labels: np.ndarray | None, extremes: Extremes) -> dict[str, Table]:
    """Return {file stem: table} of terms, channels, gamma, classes (if there are any) and images."""
    names = ("bits_per_dim", "low_95", "high_95", "monte_carlo_error")
    terms = (*analysis.evaluation.terms, "total")
    tables = {
        "terms": Table(
            ("term", *names), [(n, *_row(analysis.evaluation.estimate(n))) for n in terms]
        ),
        "channels": Table(
            ("channel", *names), [(n, *_row(row)) for n, row in enumerate(analysis.per_channel())]
        ),
    }

    # A row per bin of gamma, with both of its 95 % bands.
    curve = profile(analysis.binned)
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
        classes = breakdown.per_class(analysis.evaluation, labels)
        tables["classes"] = Table(
            ("class", "images", *names),
            [(label, count, *_row(row)) for label, (count, row) in classes.items()],
        )

    # Valued by other randomisations than those that chose them, see `Extremes`.
    chosen = extremes.bits.items()
    error = extremes.error or {}
    tables["images"] = Table(
        ("index", "bits_per_dim", "monte_carlo_error"),
        [(index, bits, error.get(index)) for index, bits in chosen],
    )
    return tables


def _row(estimate: Estimate) -> tuple:
    """Return mean, ends of the 95 % interval and Monte Carlo error as cells."""
    return (estimate.mean, *(estimate.interval or (None, None)), estimate.monte_carlo_error)


def _arrays(analysis: Breakdown) -> dict[str, np.ndarray]:
    """Return the bits of every dimension [H,W,C] by term, and their standard errors if estimated."""
    arrays = {name: analysis.maps[name].bits for name in MAPPED}
    errors = {f"{name}_error": analysis.maps[name].standard_error for name in MAPPED}
    return {**arrays, **{n: e for n, e in errors.items() if e is not None}}
