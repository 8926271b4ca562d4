"""Work folders: the run that one belongs to, its lock, and files written whole.

config.json   configuration, data identity, and where the run was started from
checkpoints/  metrics.jsonl  goodput.json  tensorboard/  evaluations/*.json + *.npz
"""

import datetime
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vdm.errors import CheckpointError, ConfigError, DataError, DiskError
from vdm.runs import identity_checks
from vdm.runs.config import as_tuples, differences
from vdm.runs.config_identity import config_changes
from vdm.runs.containment import check_links
from vdm.runs.former_fields import FORMER_NAMES, upgrade
from vdm.runtime import locks
from vdm.runtime.files import FULL_ERRNOS, write_whole
from vdm.runtime.processes import is_first
from vdm.types import DataSpec

CHANGEABLE_GROUPS = ("train", "evaluate", "optimizer", "devices")
"""Sections of a run that --allow_change may name; the rest would make another model."""
CHANGEABLE_FIELDS = (
    "data.cache_dir",
    "data.source_dir",
    "denoiser.unet.unroll",
    "denoiser.unet.remat",
)
FIXED_FIELDS = {
    "train.batch_size": "it decides which images a step sees",
    "evaluate.seed": "validations before and after would not compare",
    "evaluate.num_timesteps": "validations before and after would not compare",
}
"""{field of those sections that may not change within a run: the reason}."""


def default_workdir(config_path: str) -> Path:
    """Return runs/{config}-{time}, or runs/{config}_{variant}-{time} where a variant is chosen."""
    file, _, variant = config_path.partition(":")
    stem = "_".join(filter(None, (Path(file).stem, variant)))
    return Path("runs") / f"{stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def data_identity(spec: DataSpec) -> dict[str, Any]:
    """Return the facts that tell one data set from another, as JSON."""
    facts = {"name": spec.name, "shape": list(spec.shape), "num_levels": spec.num_levels}
    return {**facts, "split_sizes": dict(spec.split_sizes), "content_hash": spec.content_hash}


def check_writable(workdir: Path, argument: str = "workdir") -> None:
    """Raise ConfigError unless the folder, or the nearest one above it that exists, can be written."""
    check_encodable(workdir, argument)
    existing = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f"{argument}={workdir}: {existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK) or _is_read_only(existing):
        raise ConfigError(f"{argument}={workdir}: {existing} cannot be written; choose another")


def check_encodable(workdir: Path, argument: str = "workdir") -> None:
    """Raise ConfigError for a path that is not UTF-8, which Orbax could neither write nor read."""
    try:
        str(workdir.absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{argument}={os.fsencode(workdir)!r}: the name is not UTF-8; rename the folder, or choose "
            "another"
        ) from None


def _is_read_only(path: Path) -> bool:
    """Return whether a folder lies on a disk that is mounted to be read only."""
    # Root may write anywhere, says os.access; Windows knows no statvfs.
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def read_identity(workdir: Path) -> dict[str, Any] | None:
    """Return the contents of config.json, lists as tuples; None when there is none.

    The configuration of an earlier revision comes with its fields under their present names.

    Raises:
      CheckpointError: it cannot be read, or a field is missing or has another type.
    """
    check_links(workdir)
    path = workdir / "config.json"
    try:
        if not os.path.lexists(path):
            return None
        if not path.is_file():  # reading a named pipe would wait for ever
            raise ValueError("it is no file")
        identity = as_tuples(json.loads(path.read_bytes()))
        identity_checks.check_sections(identity)
        identity["config"] = upgrade(identity["config"])
        identity_checks.check_fields(identity)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); see to its disk") from None
    # Hundreds of lists within lists are a recursion too deep.
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is damaged ({error}); restore it, or train in another folder"
        ) from None
    return identity


def require_identity(workdir: Path, argument: str = "workdir") -> dict[str, Any]:
    """Return the contents of config.json; CheckpointError unless the folder holds a run."""
    check_encodable(workdir, argument)
    identity = read_identity(workdir) if workdir.is_dir() else None
    if identity is None:
        what = "holds no run" if workdir.is_dir() else "is no folder"
        raise CheckpointError(f"{argument}={workdir}: {what}; train first, or correct the path")
    return identity


def distinct_names(folders: Sequence[str]) -> list[str]:
    """Return the last component of every path, numbered where it repeats."""
    stems = [Path(f).resolve().name for f in folders]
    return [s if stems.count(s) == 1 else f"{s} ({n})" for n, s in enumerate(stems, start=1)]


def check_resumable(
    saved: Mapping,
    config: Mapping,
    data: Mapping,
    allowed: Sequence[str],
    workdir: Path | None = None,
) -> dict[str, list]:
    """Return {field: [saved, now]} of the changes that `allowed` covers.

    Args:
      saved: the contents of config.json.
      config: the configuration now.
      data: the identity of the data now, see `data_identity`.
      allowed: fields that may differ.
      workdir: the folder, for messages.

    Raises:
      DataError: the folder belongs to other data.
      ConfigError: any other difference, field by field.
    """
    changes = config_changes(saved["config"], config)
    refused = {n: pair for n, pair in changes.items() if n not in allowed}
    # Other pixels under an unchanged configuration: the files have changed, not the user's mind.
    data_changes = differences(saved["data"], as_tuples(dict(data)))
    if data_changes and not any(n not in CHANGEABLE_FIELDS for n in refused):
        where = "" if workdir is None else f"workdir={workdir}: "
        raise DataError(
            f"{where}data is not what this folder was trained on: {_list(data_changes)}"
        )
    if refused:
        where = "the folder" if workdir is None else f"workdir={workdir}:"
        raise ConfigError(
            f"{where} holds another run: {_list(refused)}; choose another workdir"
            + _offer([n for n in refused if _is_changeable(n)], len(refused))
        )
    return {name: list(pair) for name, pair in changes.items()}


def check_changeable(names: Sequence[str]) -> None:
    """Raise ConfigError unless each of `names` is a field that may change within a run."""
    for name in names:
        if name in FORMER_NAMES:
            raise ConfigError(f"allow_change={name}: this field is now {FORMER_NAMES[name]}")
        if name in FIXED_FIELDS:
            raise ConfigError(
                f"allow_change={name}: {FIXED_FIELDS[name]}; start a run in another workdir"
            )
        if not _is_changeable(name):
            groups = ", ".join(f"{g}.*" for g in CHANGEABLE_GROUPS)
            listed = ", ".join([groups, *CHANGEABLE_FIELDS])
            raise ConfigError(f"allow_change={name}: only {listed} may change")


def _is_changeable(name: str) -> bool:
    within = name.partition(".")[0] in CHANGEABLE_GROUPS and name not in FIXED_FIELDS
    return within or name in CHANGEABLE_FIELDS


def check_same_data(saved: Mapping, spec: DataSpec) -> None:
    """Raise DataError unless `spec` describes the data that a run was trained on."""
    if changes := differences(saved, as_tuples(data_identity(spec))):
        raise DataError(f"data is not what this folder was trained on: {_list(changes)}")


def _list(changes: Mapping[str, tuple]) -> str:
    return ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changes.items())


def _offer(changeable: list[str], num_refused: int) -> str:
    if len(changeable) < num_refused:
        return ""
    return f", or allow_change={','.join(changeable)}"


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make the work folder and hold its lock within the context.

    The lock does not outlive the process, even if that is killed.

    Of several processes of one run only the first takes the lock.

    Raises:
      ConfigError: another run holds it, or the folder cannot be written.
      DiskError: the disk is full.
    """
    if not is_first():
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = locks.take(workdir / ".lock")
    except locks.HeldError as owner:
        raise ConfigError(
            f"workdir={workdir}: in use by {owner}; wait, or choose another folder"
        ) from None
    except OSError as error:
        kind = DiskError if error.errno in FULL_ERRNOS else ConfigError
        raise kind(f"workdir={workdir}: cannot be written ({error.strerror or error})") from error
    with lock:
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole file or nothing; of several processes only the first one writes."""
    if not is_first():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise DiskError(f"{path}: cannot be written ({error})") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, the whole file or nothing."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a compressed .npz, the whole file or nothing."""
    write_bytes(path, npz(arrays))


def npz(arrays: Mapping[str, Any]) -> bytes:
    """Return the bytes of a compressed .npz; the same arrays give the same bytes."""
    file = io.BytesIO()
    content: Any = dict(arrays)
    np.savez_compressed(file, **content)
    return file.getvalue()
