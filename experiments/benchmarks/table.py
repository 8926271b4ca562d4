"""Table of a benchmark's measurements for the terminal."""

from collections.abc import Mapping
from typing import Any

from vdm.runtime.tables import show_table

_COLUMNS = (
    "",
    *("trace\ns", "lower\ns", "compile\ns", "temp.\nMB", "resident\nMB", "state\nMB"),
    *("train\nimages/s", "spread", "MFU", "conv.", "ratio", "evaluate\nimages/s", "ratio"),
)


def format_table(measured: Mapping[str, Any]) -> str:
    """Return the measurements of `experiments.benchmarks.model.run` as lines of text."""
    flops, best = measured["flops_per_image"], measured["peaks"]
    xla = flops["train_xla_flops"]
    counted = "" if xla is None else f" ({xla / 1e9:.2f} by XLA's count of all operations)"

    # First what belongs to all rows: arithmetic, peaks, memory of the process.
    lines = [
        f"per image: {flops['train_matmul_flops'] / 1e9:.2f} GFLOP to train{counted}, "
        f"{flops['evaluate_matmul_flops'] / 1e9:.2f} to evaluate",
        "measured peaks of one device, GFLOP/s: "
        + ", ".join(f"{n.partition('_')[0]} {v / 1e9:.0f}" for n, v in best.items()),
        "peak memory of this process, all rows together: "
        + ", ".join(f"{n} {v / 1e6:.0f} MB" for n, v in measured["peak_memory_bytes"].items()),
        "",
        show_table(_COLUMNS, _rows(measured)),
    ]

    # Only programs of several devices have collective operations.
    for name, row in measured["rows"].items():
        for kind, size in row.get("collectives", {}).items():
            lines.append(f"{name}: {size['count']} {kind} of {size['bytes'] / 1e6:.2f} MB in all")
    lines.append(
        "ratio: the first row's images/s over this one's; MFU: of the matrix product's peak, conv.: of "
        "the convolution's; tiles that save multiplications count as if they did not; temp.: what XLA "
        "plans for a step; resident: by how much the process grew in one"
    )
    return "\n".join(lines)


def _rows(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells of every row, its name first."""
    best, rows = measured["peaks"], measured["rows"]
    peaks = [best.get(f"{kind}_flops_per_second") for kind in ("matmul", "convolution")]
    # Peaks are of one device, speeds of all of them.
    peaks = [None if peak is None else peak * measured["devices"] for peak in peaks]
    first = next(iter(rows.values()))
    return [(name, *_cells(row, first, peaks)) for name, row in rows.items()]


def _cells(row: Mapping[str, Any], first: Mapping[str, Any], peaks: list) -> list[str]:
    """Return the cells of one row; `peaks` are FLOP/s of matrix product and convolution, or None."""
    train, evaluate = row["train_images_per_second"], row.get("evaluate_images_per_second")
    before = first.get("evaluate_images_per_second")
    memory = ("temporary_bytes", "resident_bytes", "state_bytes_per_device")
    return [
        *(_number(row.get(f"{stage}_seconds"), 1) for stage in ("trace", "lower", "compile")),
        *(_number(_mega(row.get(name)), 0) for name in memory),
        _number(train, 2),
        f"{row['train_relative_spread']:.0%}",
        *(_share(row["train_flops_per_second"], peak) for peak in peaks),
        _number(first["train_images_per_second"] / train, 2),
        _number(evaluate, 2),
        _number(before / evaluate if before and evaluate else None, 2),
    ]


def _share(rate: float, peak: float | None) -> str:
    """Return a speed as a percentage of a peak, both in FLOP/s."""
    return "-" if peak is None else f"{rate / peak:.1%}"


def _mega(value: float | None) -> float | None:
    """Return bytes as megabytes (10^6)."""
    return None if value is None else value / 1e6


def _number(value: float | None, digits: int) -> str:
    """Return a number with so many decimal places, "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"
