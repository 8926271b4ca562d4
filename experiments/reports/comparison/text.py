"""Comparison as lines for the terminal."""

from experiments.reports.comparison.groups import Grouped
from experiments.reports.comparison.numbers import Comparison
from vdm.evaluation.analysis.noise_levels import Band
from vdm.evaluation.analysis.paired import Difference
from vdm.evaluation.evaluate import format_table, summarise


def format_tables(comparison: Comparison) -> str:
    """Return every run's table, the differences of the totals, their bands, and the groups of seeds."""
    lines = []
    for name, evaluation in comparison.evaluations.items():
        lines += [f"{name}, checkpoint step {comparison.runs[name].step}"]
        lines += [format_table(summarise(evaluation)), ""]
    if comparison.differences:
        lines.append("differences of the total in bits/dim, by pairs of equal image and noise")
    for (run, other, term), gap in comparison.differences.items():
        if term == "total":
            lines.append(f"  {run} - {other}: {format_difference(gap)}")
            if run in comparison.bands:
                lines.append(f"    {format_band(comparison.bands[run])}")
    return "\n".join([*lines, *format_groups(comparison.grouped), *comparison.notes])


def format_difference(gap: Difference) -> str:
    """Return mean, 95 % intervals and adjusted p value of a difference, and its gain from pairing."""
    # Two copies of one run: every interval would have zero width.
    if gap.identical:
        return "0, identical on every image"
    if gap.interval is None or gap.bootstrap is None:
        return f"{gap.mean:+.4f}, interval not estimated from one image"
    text = (
        f"{gap.mean:+.4f}, 95 % interval {_range(gap.interval)}, bootstrap {_range(gap.bootstrap)}"
    )
    # Named only where the adjustment changed the p value, that is for three runs or more.
    if gap.holm is not None:
        text += f", p {gap.holm:.2g}" + (" (Holm)" if gap.holm != gap.p_value else "")
    # Two runs whose images differ at random gain nothing: 1.0 would read as a result.
    if gap.shrinkage is None or f"{gap.shrinkage:.1f}" == "1.0":
        return text
    return f"{text}; {gap.shrinkage:.1f} times narrower by pairing"


def format_band(band: Band) -> str:
    """Return the band of gamma with most of a difference, and whether it is certain."""
    where = f"gamma in [{band.low:.2f}, {band.high:.2f}]"
    part = f"{band.part:+.4f} of the denoising term's {band.whole:+.4f}"
    certain = "" if band.is_certain else ": no band is certain to differ"
    return f"most of it at {where}: {part}, 95 % over all bands {_range(band.interval)}{certain}"


def format_groups(grouped: Grouped | None) -> list[str]:
    """Return lines on the total of every group of seeds, and on the groups' differences."""
    if grouped is None:
        return []
    lines = ["", "total over training seeds, Student's t between seeds (one set of images)"]
    for label in grouped.groups:
        row = grouped.between[label, "total"]
        lines.append(
            f"  {label}: {row.mean:.4f}, deviation {row.deviation:.4f}, {row.num_seeds} seeds; "
            f"mean of all seeds in {_range(row.interval)}, the next seed in {_range(row.next_seed)}"
        )
    for (label, first, term), (gap, adjusted) in grouped.gaps.items():
        if term == "total":
            how = "by pairs of equal seed" if gap.paired else "unpaired"
            p_value = "" if adjusted is None else f", p {adjusted:.2g}"
            lines.append(
                f"  {label} - {first}: {gap.mean:+.4f} between-seed {_range(gap.interval)}, "
                f"{how}{p_value}"
            )
    return lines


def _range(interval: tuple[float, float]) -> str:
    """Return an interval with the signs of its ends."""
    return f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"
