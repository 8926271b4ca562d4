"""Curves of a run, read from its metrics.jsonl."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vdm.errors import CheckpointError
from vdm.models.vdm.time_density import DRAWN, QUANTILES
from vdm.training.metrics_file import read_records

Curves = dict[str, np.ndarray]
"""{column: one number per logged step}."""

_TRAIN = {
    "step": "step",
    "images": "images_seen",
    "seconds": "seconds",
    "train": "bits_per_dim",
}
_VALIDATION = {"step": "step", "validation": "validation_bits_per_dim"}


def training_curves(workdir: Path) -> Curves:
    """Return {"step", "images", "seconds", "train"}: the training loss in bits/dim; empty at first."""
    return _columns(workdir, _TRAIN)


def validation_curves(workdir: Path) -> Curves:
    """Return {"step", "validation"}: bits/dim of the averaged parameters on the validation split."""
    return _columns(workdir, _VALIDATION)


def drawn_gammas(workdir: Path) -> Curves:
    """Return {"images", "0.05", ..., "0.95"}: quantiles of the gammas that training drew."""
    shares = {f"{share:g}": f"{DRAWN}{share:g}" for share in QUANTILES}
    return _columns(workdir, {"images": "images_seen", **shares})


def _columns(workdir: Path, columns: Mapping[str, str]) -> Curves:
    """Return {column: values} of the records that have every one of the keys `columns` names."""
    # Streamed: the records of a long run, as dictionaries, would take ten times their file's bytes.
    values: dict[str, list[float]] = {name: [] for name in columns}
    path, needed = workdir / "metrics.jsonl", set(columns.values())
    try:
        for record in read_records(path):
            if needed <= record.keys():
                for name, key in columns.items():
                    values[name].append(record[key])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    return {name: np.array(column) for name, column in values.items()}
