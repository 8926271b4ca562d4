"""The contract of a data source, the records it leads to, and the checks between."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vdm.errors import ConfigError, DataError
from vdm.types import DataSpec

MAX_LEVELS = 65_536
"""Most integer codes per channel: those of 16 bits."""
SPLIT_SEED = 20_210_701
"""Seed of every split that a source makes itself; changing it changes what "test" means."""

ProgressFn = Callable[[str, int, int], None]
"""A function (what is being done, number done, number in all) -> None."""


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore progress."""


class NotPrepared(DataError):
    """Data that must be prepared first, by a program that may import TensorFlow Datasets."""


class Source(Protocol):
    """The contract of a source that is read anew at each start: one keyword per option.

    It returns (arrays by split, num_levels, notes): integer codes 0 .. num_levels - 1 as [N,H,W,C]
    of one image shape; split names that are identifiers, "train", "validation" and "test" among
    them; and the facts that must stand beside every number ("" if none). It raises DataError for
    unsuitable data and ConfigError for unsuitable options, and writes nothing.
    """

    def __call__(self, **options) -> tuple[Mapping[str, np.ndarray], int, str]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class RawDataset:
    """A data set as its source stores it: its own splits, before any image is held out or sorted.

    Attributes:
      images: integer codes [N,H,W,C] per split, in any order.
      num_levels: integer codes per channel.
      labels: class of each image [N] per split; {} without.
      index: position of each image in its original split [N] per split; {} where it is not known.
      missing: original positions that the source lacks, per split.
      notes: facts that must stand beside every number.
      source: provenance, for the manifest.
    """

    images: Mapping[str, np.ndarray]
    num_levels: int
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    index: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A data set that is prepared once: its request and the function that reads it.

    Attributes:
      name: the set's name in reports.
      request: everything that decides the pixels, as JSON.
      read: (a scratch folder, progress) -> the raw data set.
      needs_tfds: whether reading needs TensorFlow Datasets, which training never imports.
      test_split: the source's split that is evaluated, where it is not called "test".
      expected: pixel hash per split of the published set, once known.
      complete_request: a wider request that is answered too when no image is missing.
      earlier_request: the request that earlier revisions recorded, perhaps for another reading of
        the same files.
    """

    name: str
    request: Mapping[str, Any]
    read: Callable[[Path, ProgressFn], RawDataset]
    needs_tfds: bool = False
    test_split: str | None = None
    expected: Mapping[str, str] = dataclasses.field(default_factory=dict)
    complete_request: Mapping[str, Any] | None = None
    earlier_request: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, eq=False)  # == of arrays has no single truth value
class Dataset:
    """A prepared data set.

    Attributes:
      spec: the facts that everything downstream may know of it.
      splits: integer codes [N,H,W,C] per split, read-only; uint8 up to 256 levels, else uint16.
      labels: class of each image [N] per split, where the source has classes.
      index: position of each image in the split its publishers gave it [N], where that is known.
    """

    spec: DataSpec
    splits: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    index: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def split(self, name: str) -> np.ndarray:
        """Return the images [N,H,W,C] of split `name`, or raise a DataError that lists the splits."""
        if name not in self.splits:
            listed = ", ".join(self.splits)
            raise DataError(
                f"split={name!r}: data {self.spec.name!r} has no such split; choose one of {listed}"
            )
        return self.splits[name]


def cache_root(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return `cache_dir`, or else $VDM_DATA_DIR, or else ~/.cache/vdm/data.

    Raises:
      ConfigError: the path starts at a home folder, and there is none.
    """
    path = cache_dir or os.environ.get("VDM_DATA_DIR") or "~/.cache/vdm/data"
    try:
        return Path(path).expanduser()
    # A container may run as a user that its system does not know.
    except RuntimeError:
        raise ConfigError(
            f"data.cache_dir={path}: there is no such home folder; set VDM_DATA_DIR to a folder that "
            "can be written"
        ) from None


def fingerprint_files(files: Sequence[Path], root: Path) -> dict[str, Any]:
    """Return the number of files and a SHA-256 that changes when any of them does.

    Names, sizes and times of change are hashed, not contents: hashing those of a large folder
    would take minutes at each start.
    """
    rows = []
    for file in files:
        status = file.stat()
        rows.append([os.path.relpath(file, root), status.st_size, status.st_mtime_ns])
    digest = hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
    return {"files": len(rows), "sha256": digest}


def split_permutation(num_images: int) -> np.ndarray:
    """Return the fixed permutation [N] by which a source splits `num_images` images itself."""
    return np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(num_images)


def check_layout(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse anything but non-empty integer arrays [N,H,W,C] that agree on [H,W,C].

    Args:
      arrays: images by split.
      where: a path or a data set's name, which opens the message.

    Raises:
      DataError: a wrong dtype, an empty array, or shapes that differ.
    """
    shapes = {}
    for name, array in arrays.items():
        what = f"{where}: array {name!r}"
        if array.dtype.kind not in "iu":
            raise DataError(
                f"{what} has dtype {array.dtype}; integer codes are needed: save uint8 or uint16"
            )
        if array.ndim != 4:
            raise DataError(f"{what} has shape {array.shape}; [N,H,W,C] is needed")
        if array.size == 0:
            raise DataError(f"{what} has shape {array.shape}; it needs at least one image")
        shapes[name] = array.shape[1:]
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"{where}: image shapes differ ({listed}); all splits must share one")


def check_levels(arrays: Mapping[str, np.ndarray], num_levels: int, where: str) -> None:
    """Refuse codes that do not fit `num_levels`.

    Args:
      arrays: integer codes by split.
      num_levels: codes per channel.
      where: a path or a data set's name, which opens the message.

    Raises:
      ConfigError: num_levels is outside 2..65,536.
      DataError: a code is outside 0 .. num_levels - 1.
    """
    if not isinstance(num_levels, int | np.integer) or not 2 <= num_levels <= MAX_LEVELS:
        raise ConfigError(f"num_levels={num_levels!r}: must be an integer in 2..{MAX_LEVELS}")
    for name, array in arrays.items():
        for value in (int(array.min()), int(array.max())):
            if not 0 <= value < num_levels:
                raise DataError(
                    f"{where}: array {name!r} holds {value}, outside 0..{num_levels - 1} "
                    f"(num_levels={num_levels}); correct num_levels or the array"
                )
