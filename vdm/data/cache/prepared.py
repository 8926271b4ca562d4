"""Prepared data on disk: memory-mapped arrays in a folder named by the hash of their content.

    <cache>/<content hash>/manifest.json  train.npy  validation.npy  test.npy

Opening checks the manifest, every size and header, and the hashes of every block of a file of up to
1 GiB (CIFAR-10 has 150 MB), of 256 blocks of a larger one: a cut file is found by its size, a foreign
one by its first block, a flipped bit in a block that is hashed. `verify` hashes all of it again.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import Dataset, NotPrepared, cache_root, check_layout, check_levels
from vdm.data.cache import content
from vdm.data.cache.content import code_bytes, code_dtype, content_digest, content_hash, in_chunks
from vdm.errors import DataError, DiskError
from vdm.runtime.files import sync_folder, write_whole
from vdm.types import DataSpec

MANIFEST = "manifest.json"
_BLOCKS_CHECKED = 256
"""Most blocks of a file that are hashed whenever it is opened: 1 GiB, in .7 s of processor time."""
_FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")

Chunks = Callable[[], Iterator[np.ndarray]]
"""A function that gives the images of a split in order, a piece at a time."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A split about to be written.

    Attributes:
      shape: (N, H, W, C).
      chunks: gives its images piece by piece, because a split may not fit into memory.
    """

    shape: tuple[int, ...]
    chunks: Chunks


def prepare(
    name: str,
    arrays: Mapping[str, np.ndarray],
    num_levels: int,
    cache_dir: str | os.PathLike | None = None,
    notes: str = "",
    write_missing: bool = True,
) -> Dataset:
    """Put arrays into the cache unless they are there, and open them.

    Arrays that the cache already holds are hashed again, so that a flipped bit is not trained on.

    Args:
      name: the data set's name.
      arrays: integer codes [N,H,W,C] by split.
      num_levels: integer codes per channel.
      cache_dir: the cache, see `vdm.data.base.cache_root`.
      notes: facts that must stand beside every number.
      write_missing: write what the cache lacks; False raises NotPrepared instead.

    Raises:
      ConfigError: num_levels is out of range.
      NotPrepared: the cache lacks them, and `write_missing` is False.
      DataError: unsuitable arrays, or the cache holds this data, but damaged.
      DiskError: the cache cannot be written.
    """
    check_layout(arrays, f"data {name!r}")
    check_levels(arrays, num_levels, f"data {name!r}")
    folder = cache_root(cache_dir) / content_hash(arrays, num_levels)
    exists = os.path.exists(folder)  # pathlib's own raises where the folder cannot be searched
    if not exists and not write_missing:
        raise NotPrepared(f"data {name!r}: not prepared in {folder.parent}")
    if not exists:
        splits = {s: Split(a.shape, functools.partial(in_chunks, a)) for s, a in arrays.items()}
        write(folder.parent, splits, {"name": name, "num_levels": int(num_levels), "notes": notes})
    stored = open_prepared(folder, verify=exists)
    # Equal pixels may have been prepared under another name or with other notes.
    return Dataset(dataclasses.replace(stored.spec, name=name, notes=notes), stored.splits)


def open_prepared(folder: str | os.PathLike, verify: bool = False) -> Dataset:
    """Open a prepared folder; `verify` also hashes all pixels again.

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

        # Names of splits become names of files, also in the work folders of runs.
        for name, entry in manifest["splits"].items():
            if not name.isidentifier() or entry["file"] != f"{name}.npy":
                raise ValueError(f"{MANIFEST} names split {name!r} and file {entry['file']!r}")

        # Cheap checks first; all pixels are hashed only on request.
        splits = {name: _open_array(folder, e) for name, e in manifest["splits"].items()}
        # Folders of version 0.1 have no hashes of blocks.
        verify = verify or not all("blocks" in entry for entry in manifest["splits"].values())
        if verify and content_hash(splits, manifest["num_levels"]) != manifest["content_hash"]:
            raise ValueError("the pixels do not match the content hash")
        return Dataset(_spec(manifest, splits), splits)
    # A manifest can be damaged in any way: whatever reading it raises means the same to the user.
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder}: prepared data is missing or damaged ({error}); "
            "delete this folder and prepare the data again"
        ) from None


def content_folder(root: Path, content_hash: Any) -> Path:
    """Return the folder of prepared data in the cache `root`, whether it exists or not.

    Raises:
      DataError: not the form of a hash; as a path it could lead out of the cache.
    """
    if not isinstance(content_hash, str) or not _HASH.fullmatch(content_hash):
        raise DataError(f"content_hash={str(content_hash)[:80]!r}: is no SHA-256 in hexadecimal")
    return root / content_hash


def read_source(folder: Path) -> dict[str, Any]:
    """Return the provenance that the manifest of a prepared folder holds; {} if there is none."""
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("source", {})
    except (OSError, ValueError, AttributeError):
        return {}


def write(root: Path, splits: Mapping[str, Split], facts: Mapping[str, Any]) -> str:
    """Write all of a prepared folder into `root` or nothing, and return its content hash.

    Another process that writes the same data may finish first; its folder is then as good.

    Args:
      root: the cache.
      splits: the splits to write.
      facts: "name", "num_levels" and "notes" of the manifest, and whatever else it shall hold.

    Raises:
      DataError: a split gave another number of images than its shape says.
      DiskError: the cache cannot be written.
    """
    # mkdtemp would make a folder that only this user may read, wrong for a shared cache.
    temporary = root / f".writing-{uuid.uuid4().hex}"
    num_levels = facts["num_levels"]

    # Pixels are hashed while they are written, in the order of `content_hash`, so that each is
    # read once; only then is the folder's name known.
    try:
        temporary.mkdir(parents=True)
        digest = content_digest({name: s.shape for name, s in splits.items()}, num_levels)
        entries = {n: _save(temporary, n, splits[n], num_levels, digest) for n in sorted(splits)}
        manifest = {"format": _FORMAT, "content_hash": digest.hexdigest(), **facts}
        manifest["splits"] = {name: entries[name] for name in splits}
        write_whole(temporary / MANIFEST, json.dumps(manifest, indent=2).encode())
        sync_folder(temporary)
        _publish(temporary, root / digest.hexdigest())
    except OSError as error:
        raise DiskError(
            f"{root}: cannot write prepared data ({error}); "
            "free space or set VDM_DATA_DIR to a folder that can be written"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest.hexdigest()


def _spec(manifest: Mapping, splits: Mapping[str, np.ndarray]) -> DataSpec:
    """Return the DataSpec that a manifest describes."""
    return DataSpec(
        name=manifest["name"],
        shape=next(iter(splits.values())).shape[1:],
        num_levels=manifest["num_levels"],
        split_sizes={name: len(array) for name, array in splits.items()},
        content_hash=manifest["content_hash"],
        notes=manifest["notes"],
        missing={name: len(index) for name, index in manifest.get("missing", {}).items()},
    )


def _open_array(folder: Path, entry: Mapping) -> np.ndarray:
    """Return one split, memory-mapped, or raise ValueError where file and manifest disagree."""
    path = folder / entry["file"]
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(f"{path.name} has {size} bytes instead of {entry['bytes']}")
    _check_blocks(path, entry.get("blocks", []))
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if [str(array.dtype), *array.shape] != [entry["dtype"], *entry["shape"]]:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape}")
    return array


def _check_blocks(path: Path, hashes: list[str]) -> None:
    """Hash all blocks, or the first, the last and some between; raise ValueError if one differs."""
    if not hashes:
        return
    num_checked = min(len(hashes), _BLOCKS_CHECKED)
    numbers = np.linspace(0, len(hashes) - 1, num_checked).round().astype(int)
    with open(path, "rb") as file:
        for number in numbers:
            file.seek(int(number) * content.BLOCK_BYTES)
            if hashlib.sha256(file.read(content.BLOCK_BYTES)).hexdigest() != hashes[number]:
                raise ValueError(f"{path.name} holds other data in block {number}")


def _save(folder: Path, name: str, split: Split, num_levels: int, digest) -> dict:
    """Write one split as .npy, add its pixels to `digest`, and return its entry in the manifest.

    Args:
      folder: the folder being written.
      name: the split's name.
      split: its shape and images.
      num_levels: integer codes per channel.
      digest: the SHA-256 object of the content hash.
    """
    path, dtype = folder / f"{name}.npy", code_dtype(num_levels)
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, split.shape))}

    # The header is written first, from the shape that was announced: the array never exists in
    # memory.
    num_images = 0
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in split.chunks():
            pixels = code_bytes(chunk, num_levels)
            digest.update(pixels)
            file.write(pixels)
            num_images += len(chunk)
        file.flush()
        os.fsync(file.fileno())

    # A file whose header does not fit its pixels would be refused whenever it is opened.
    if num_images != split.shape[0]:
        raise DataError(f"split {name!r}: {num_images} images came instead of {split.shape[0]}")
    facts = {"file": path.name, "bytes": path.stat().st_size, "blocks": _block_hashes(path)}
    return {**facts, "dtype": str(dtype), "shape": list(map(int, split.shape))}


def _block_hashes(path: Path) -> list[str]:
    """Return the SHA-256 (hex) of every block of a file."""
    hashes = []
    with open(path, "rb") as file:
        while block := file.read(content.BLOCK_BYTES):
            hashes.append(hashlib.sha256(block).hexdigest())
    return hashes


def _publish(temporary: Path, folder: Path) -> None:
    """Give the finished folder its name, unless another process was faster."""
    try:
        os.rename(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)
