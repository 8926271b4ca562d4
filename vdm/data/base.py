"""What a data source gives, and the cache that turns it into memory-mapped arrays.

A prepared data set is a folder named by its content hash, so nothing stale can be taken for it:

    <cache>/<content hash>/manifest.json  train.npy  validation.npy  test.npy
"""

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from vdm.errors import ConfigError, DataError, DiskError
from vdm.types import DataSpec

MAX_LEVELS = 65_536
SPLIT_SEED = 20_210_701
"""Seed of every split that a source makes itself; changing it changes what "test" means."""
MANIFEST = "manifest.json"
_FORMAT = 1


class Source(Protocol):
    """The contract of a data source: a function `source(**options)`, one keyword per option.

    It returns (arrays by split, num_levels, notes): integer codes 0 .. num_levels - 1 as [N,H,W,C]
    of one image shape; split names that are identifiers, "train", "validation" and "test" among
    them; and the facts that must stand beside every number ("" if none). It raises DataError for
    unsuitable data and ConfigError for unsuitable options, and writes nothing.
    """

    def __call__(self, **options) -> tuple[Mapping[str, np.ndarray], int, str]: ...


@dataclasses.dataclass(frozen=True, eq=False)  # == of arrays has no single truth value
class Dataset:
    """A prepared data set.

    Attributes:
      spec: what everything downstream may know of it.
      splits: integer codes [N,H,W,C] per split, read-only; uint8 up to 256 levels, else uint16.
    """

    spec: DataSpec
    splits: Mapping[str, np.ndarray]

    def split(self, name: str) -> np.ndarray:
        """The images [N,H,W,C] of split `name`, or a DataError that lists the splits."""
        if name not in self.splits:
            listed = ", ".join(self.splits)
            raise DataError(
                f"split={name!r}: data {self.spec.name!r} has no such split; choose one of {listed}"
            )
        return self.splits[name]


def cache_root(cache_dir: str | os.PathLike | None = None) -> Path:
    """`cache_dir`, or else $VDM_DATA_DIR, or else ~/.cache/vdm/data; DiskError without a home."""
    path = cache_dir or os.environ.get("VDM_DATA_DIR") or "~/.cache/vdm/data"
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DiskError(f"{path}: {error} Set VDM_DATA_DIR to a writable folder") from None


def split_permutation(num_images: int) -> np.ndarray:
    """The fixed permutation [N] by which a source splits `num_images` images itself."""
    return np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(num_images)


def check_layout(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Refuses anything but non-empty integer arrays [N,H,W,C] that agree on [H,W,C].

    `where` (a path or a data set's name) opens the message of the DataError.
    """
    shapes = {}
    for name, array in arrays.items():
        what = f"{where}: array {name!r}"
        if array.dtype.kind not in "iu":
            raise DataError(
                f"{what} has dtype {array.dtype}; integer codes are needed, such as uint8"
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
    """Refuses num_levels outside 2..65,536 (ConfigError) and codes outside its range (DataError)."""
    if not isinstance(num_levels, int | np.integer) or not 2 <= num_levels <= MAX_LEVELS:
        raise ConfigError(f"num_levels={num_levels!r}: must be an integer in 2..{MAX_LEVELS}")
    for name, array in arrays.items():
        for value in (int(array.min()), int(array.max())):
            if not 0 <= value < num_levels:
                raise DataError(
                    f"{where}: array {name!r} holds {value}, outside 0..{num_levels - 1} "
                    f"(num_levels={num_levels}); correct num_levels or the array"
                )


def content_hash(splits: Mapping[str, np.ndarray], num_levels: int) -> str:
    """SHA-256 (hex) over split names, shapes, levels and pixels, whatever the dtypes or order."""
    names = sorted(splits)
    shapes = [[name, list(splits[name].shape)] for name in names]
    header = json.dumps({"num_levels": int(num_levels), "splits": shapes}, sort_keys=True)
    digest = hashlib.sha256(header.encode())
    for name in names:
        digest.update(_canonical(splits[name], num_levels).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def prepare(
    name: str,
    arrays: Mapping[str, np.ndarray],
    num_levels: int,
    cache_dir: str | os.PathLike | None = None,
    notes: str = "",
) -> Dataset:
    """Puts `arrays` [N,H,W,C] by split into the cache unless they are there, and opens them.

    Raises:
      ConfigError, DataError: as in `check_levels` and `check_layout`.
      DataError: the cache holds this data, but damaged.
      DiskError: the cache cannot be written.
    """
    check_layout(arrays, f"data {name!r}")
    check_levels(arrays, num_levels, f"data {name!r}")
    splits = {split: _canonical(array, num_levels) for split, array in arrays.items()}
    digest = content_hash(splits, num_levels)
    folder = cache_root(cache_dir) / digest
    if not os.path.exists(folder):  # pathlib's own raises where the folder cannot be searched
        facts = {"name": name, "num_levels": int(num_levels), "notes": notes}
        _write(folder, splits, {"format": _FORMAT, "content_hash": digest, **facts})
    stored = open_prepared(folder)
    # Equal pixels may have been prepared under another name or with other notes.
    return Dataset(dataclasses.replace(stored.spec, name=name, notes=notes), stored.splits)


def open_prepared(folder: str | os.PathLike, verify: bool = False) -> Dataset:
    """Opens a prepared folder; `verify` also hashes all pixels again.

    Raises:
      DataError: the folder is missing, or does not hold what its manifest says.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or manifest["content_hash"] != folder.name:
            raise ValueError(f"{MANIFEST} belongs to other data or another version")
        if not manifest["splits"]:
            raise ValueError(f"{MANIFEST} lists no splits")
        splits = {name: _open_array(folder, e) for name, e in manifest["splits"].items()}
        if verify and content_hash(splits, manifest["num_levels"]) != manifest["content_hash"]:
            raise ValueError("the pixels do not match the content hash")
        return Dataset(_spec(manifest, splits), splits)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder}: prepared data is missing or damaged ({error}); "
            "delete this folder and prepare the data again"
        ) from None


def _canonical(array: np.ndarray, num_levels: int) -> np.ndarray:
    return np.ascontiguousarray(array, dtype="<u1" if num_levels <= 256 else "<u2")


def _spec(manifest: Mapping, splits: Mapping[str, np.ndarray]) -> DataSpec:
    return DataSpec(
        name=manifest["name"],
        shape=next(iter(splits.values())).shape[1:],
        num_levels=manifest["num_levels"],
        split_sizes={name: len(array) for name, array in splits.items()},
        content_hash=manifest["content_hash"],
        notes=manifest["notes"],
    )


def _open_array(folder: Path, entry: Mapping) -> np.ndarray:
    path = folder / entry["file"]
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes instead of {entry['bytes']}")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if [str(array.dtype), *array.shape] != [entry["dtype"], *entry["shape"]]:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape}")
    return array


def _write(folder: Path, splits: Mapping[str, np.ndarray], manifest: dict) -> None:
    """Writes all of `folder` or nothing; another process writing the same data may win."""
    # mkdtemp would make a folder that nobody else may read, wrong for a shared cache.
    temporary = folder.parent / f".writing-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        manifest["splits"] = {name: _save(temporary, name, a) for name, a in splits.items()}
        with open(temporary / MANIFEST, "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            _sync(file)
        _sync_folder(temporary)
        _publish(temporary, folder)
    except OSError as error:
        raise DiskError(
            f"{folder.parent}: cannot write prepared data ({error}); "
            "free space or set VDM_DATA_DIR to a folder that can be written"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
    _sync_folder(folder.parent)


def _save(folder: Path, name: str, array: np.ndarray) -> dict:
    path = folder / f"{name}.npy"
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)
        _sync(file)
    facts = {"file": path.name, "bytes": path.stat().st_size}
    return {**facts, "dtype": str(array.dtype), "shape": list(array.shape)}


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
