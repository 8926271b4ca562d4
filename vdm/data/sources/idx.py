"""MNIST's idx files (LeCun et al. 1998), gzipped or not: a big-endian header, then bytes."""

import struct
from pathlib import Path

import numpy as np

from vdm.data.base import RawDataset
from vdm.data.reading.archives import read_gzip
from vdm.errors import DataError

_NAMES = {"train": "train", "test": "t10k"}
_KINDS = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
_MAX_BYTES = 2**28
_UBYTE = 8
"""Code of the header for unsigned bytes."""


def find(folder: Path) -> list[Path]:
    """Return the four files in `folder`, or []."""
    paths = [_path(folder, split, kind) for split in _NAMES for kind in _KINDS]
    return [path for path in paths if path] if all(paths) else []


def read(files: list[Path]) -> RawDataset:
    """Return images [N,H,W,1] and labels of both splits from the files that `find` returned.

    Raises:
      DataError: a file is cut, damaged, or does not fit its partner.
    """
    images, labels = {}, {}
    for split, images_at, labels_at in zip(_NAMES, files[::2], files[1::2], strict=True):
        images[split] = read_idx(images_at, 3)[..., None]
        labels[split] = read_idx(labels_at, 1).astype(np.int64)
        if len(labels[split]) != len(images[split]):
            raise DataError(
                f"{labels_at}: {len(labels[split])} labels for {len(images[split])} images"
            )
    index = {split: np.arange(len(array)) for split, array in images.items()}
    return RawDataset(images, 256, labels, index, source={"format": "idx"})


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Return the array of bytes in an idx file.

    The header is two zeros, a code of the dtype, the number of axes, and the size of each axis as
    a 32-bit integer.

    Raises:
      DataError: another kind of file, or another number of bytes than the header says.
    """
    content = read_gzip(path, _MAX_BYTES)
    header = 4 + 4 * num_axes
    if len(content) < header or content[:4] != bytes([0, 0, _UBYTE, num_axes]):
        raise DataError(f"{path}: no idx file of bytes with {num_axes} axes")

    # Python integers: sizes of a damaged header may overflow 64 bits when they are multiplied.
    shape = struct.unpack(f">{num_axes}I", content[4:header])
    expected = int(np.prod(shape, dtype=object))
    if len(content) - header != expected:
        raise DataError(
            f"{path}: {len(content) - header} bytes follow the header instead of {expected}; "
            "it is cut or damaged"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _path(folder: Path, split: str, kind: str) -> Path | None:
    """Return the file of a split's images or labels, or None."""
    stem = f"{_NAMES[split]}-{_KINDS[kind]}"
    # Some unpackers write a dot for the last dash.
    names = [stem, f"{stem}.gz", stem.replace("-idx", ".idx")]
    return next((folder / name for name in names if (folder / name).is_file()), None)
