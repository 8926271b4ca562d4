"""The record of a checkpoint: JSON under its own hash, with the hash of every array and the metrics.

    <directory>/<step>/record/metadata    {"content": {..., "arrays": ..., "metrics": ...}, "sha256"}

Reading it needs neither Orbax nor an array. Earlier revisions kept the metrics in a file of Orbax's
beside it, metrics/metrics, which no hash protects: it is read where the record has none.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.errors import CheckpointError
from vdm.runtime.files import write_whole
from vdm.runtime.hashes import json_hash, sealed, unsealed

RECORD = "record/metadata"
"""File within a step's folder that holds the sealed record."""
FORMER_METRICS = "metrics/metrics"
"""File within a step's folder in which earlier revisions kept the metrics, {name: number}."""
RESERVED = ("arrays", "metrics")
"""Entries of a record that the checkpoint itself adds; a caller's facts stand beside them."""


def make_record(facts: Mapping, arrays: Mapping, metrics: Mapping[str, float]) -> dict:
    """Return the sealed record of a step.

    Args:
      facts: JSON-able entries of the caller.
      arrays: {item: {path: shape, dtype and SHA-256}}.
      metrics: {name: number} of this step.
    """
    return sealed({**facts, "arrays": arrays, "metrics": dict(metrics)})


def read_record(directory: Path, step: int) -> dict:
    """Return the record of a step as it was before it was sealed.

    Raises:
      ValueError: its own hash does not fit, or it is no JSON.
      OSError: it cannot be read.
    """
    return unsealed(_read_json(directory / str(step) / RECORD))


def facts_of(record: Mapping) -> dict:
    """Return the caller's entries of a record, with all lists as the tuples they were."""
    return {name: _tuples(value) for name, value in record.items() if name not in RESERVED}


def write_record(directory: Path, step: int, record: Mapping) -> None:
    """Replace the record of a committed step as a whole by a sealed one."""
    write_whole(directory / str(step) / RECORD, json.dumps(record).encode())


def saved_ema_hash(directory: Path, step: int) -> str:
    """Return `vdm.runtime.hashes.tree_hash` of the averaged parameters that `step` was saved with.

    Raises:
      CheckpointError: no such step in `directory`, or a damaged record.
    """
    try:
        return json_hash(read_record(directory, step)["arrays"]["ema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        path = directory / str(step) / RECORD
        raise CheckpointError(f"{path}: cannot be read ({error_line(error)})") from None


class Metrics:
    """The metric of every step by which the best one is chosen.

    Args:
      directory: the folder of the checkpoints.
      name: name of the metric.
      warn: called with a line when a file is damaged, or is one without a hash.
    """

    def __init__(self, directory: Path, name: str, warn: Callable[[str], None]):
        self._directory, self._name, self._warn = directory, name, warn
        # Records are read again only when their files have changed: every save asks for all metrics.
        self._known: dict[int, tuple[tuple, float | None]] = {}
        self._said_unprotected = False

    def of(self, step: int) -> float | None:
        """Return the metric of a step, or None where it has none or its record is damaged."""
        version = self._version(step)
        if self._known.get(step, (None,))[0] != version:
            self._known[step] = (version, self._read(step))
        return self._known[step][1]

    def _version(self, step: int) -> tuple:
        """Return what changes when one of the step's two files is replaced."""
        return tuple(
            _identity(self._directory / str(step) / name) for name in (RECORD, FORMER_METRICS)
        )

    def _read(self, step: int) -> float | None:
        """Return the metric from the sealed record, or from the file of an earlier revision."""
        path = self._directory / str(step) / RECORD
        try:
            record = read_record(self._directory, step)
            if "metrics" not in record:
                path = self._directory / str(step) / FORMER_METRICS
                return self._read_former(path, step)
            return _number(record["metrics"], self._name) if record["metrics"] else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, OverflowError) as error:
            self._warn(
                f"WARNING: {path} is damaged ({error_line(error)}); step {step} counts as not validated"
            )
            return None

    def _read_former(self, path: Path, step: int) -> float:
        value = _number(_read_json(path), self._name)
        # Once is enough: all steps of such a run are alike.
        if not self._said_unprotected:
            self._said_unprotected = True
            self._warn(
                f"{path}: of an earlier revision, without a hash of its own; the metric of step "
                f"{step} is taken as it stands"
            )
        return value


def error_line(error: BaseException) -> str:
    """Return an error's text as one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


def _read_json(path: Path) -> Any:
    """Return the contents of a JSON file; ValueError where it is none, OSError where it is not read."""
    try:
        return json.loads(path.read_bytes())
    # Thousands of lists within lists, which a damaged or hostile file may hold.
    except RecursionError:
        raise ValueError("too many lists within lists") from None


def _tuples(value: Any) -> Any:
    """Return a value read from JSON with its lists as tuples."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return inode, size and time of a file, or None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _number(metrics: Any, name: str) -> float:
    """Return a metric that must be there and be a finite number; ValueError otherwise."""
    if not isinstance(metrics, dict):
        raise ValueError("no JSON object")
    if name not in metrics:
        raise ValueError(f"it holds no {name}")
    value = metrics[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite number")
    return float(value)
