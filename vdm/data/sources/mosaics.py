"""A set stored as a few large lossless pictures, each a grid of equal tiles, row by row.

    train_0.webp train_1.webp ... test.webp      (or .png)
    labels.npz    train_labels, test_labels; train_valid, test_valid: false where an image is missing

The format exists because a few pictures are smaller and easier to move than tens of thousands of
files or an uncompressed archive (lossless WebP packs CIFAR-10 into 103 MB), and because the mask
declares images that are missing instead of dropping them in silence.
"""

import math
from pathlib import Path

import numpy as np

from vdm.data.base import RawDataset
from vdm.data.reading.images import decode
from vdm.data.reading.npy import read_npz
from vdm.errors import DataError

_SUFFIXES = (".webp", ".png")
_LABELS = "labels.npz"
_MAX_PIXELS = 2**26
"""Most pixels of one mosaic, 67 million."""


def find(folder: Path) -> list[Path]:
    """Return the paths of labels.npz and of all mosaics in `folder`; [] where a split or it lacks."""
    mosaics = [*_mosaics(folder, "train"), *_mosaics(folder, "test")]
    complete = _mosaics(folder, "train") and _mosaics(folder, "test")
    return [folder / _LABELS, *mosaics] if complete and (folder / _LABELS).is_file() else []


def read(files: list[Path], shape: tuple[int, int, int]) -> RawDataset:
    """Return the valid images of both splits, with labels and original positions.

    Args:
      files: what `find` returned.
      shape: (H, W, C) of a tile.

    Raises:
      DataError: a damaged or unsuitable file.
    """
    folder, facts = files[0].parent, _read_labels(files[0])
    images, labels, index, missing = {}, {}, {}, {}
    for split in ("train", "test"):
        mosaics = [_tiles(path, shape) for path in _mosaics(folder, split)]
        tiles, valid = np.concatenate(mosaics), facts[f"{split}_valid"].astype(bool)
        split_labels = facts[f"{split}_labels"]
        if not len(valid) == len(split_labels) <= len(tiles):
            raise DataError(
                f"{files[0]}: {len(valid)} of {split}, but the mosaics have {len(tiles)} tiles"
            )

        # The last grid may have empty tiles, so positions beyond the mask's length hold no image.
        index[split], missing[split] = np.flatnonzero(valid), np.flatnonzero(~valid)
        images[split] = tiles[index[split]]
        labels[split] = split_labels[valid].astype(np.int64)
    source = {"format": "mosaics"}
    return RawDataset(images, 256, labels, index, missing, source=source)


def _mosaics(folder: Path, split: str) -> list[Path]:
    """Return the pictures of a split in the order of their numbers."""
    paths = [p for p in folder.glob(f"{split}*") if p.suffix in _SUFFIXES]
    numbers = {p: p.stem.removeprefix(split).removeprefix("_") for p in paths}
    numbered = [p for p in paths if not numbers[p] or numbers[p].isdigit()]
    return sorted(numbered, key=lambda p: int(numbers[p] or 0))


def _read_labels(path: Path) -> dict[str, np.ndarray]:
    """Return labels and masks of both splits."""
    try:
        arrays = read_npz(path, lambda names: None)
        names = [f"{s}_{kind}" for s in ("train", "test") for kind in ("labels", "valid")]
        return {name: arrays[name] for name in names}
    # A malformed file can make numpy, zipfile and zlib raise nearly anything.
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _tiles(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the tiles of a picture [N,H,W,C], row by row."""
    mosaic, _ = decode(path, str(path), _MAX_PIXELS)
    height, width, channels = shape
    rows, columns = mosaic.shape[0] // height, mosaic.shape[1] // width
    if mosaic.shape != (rows * height, columns * width, channels):
        raise DataError(f"{path}: {mosaic.shape} is no grid of tiles {shape}")
    grid = mosaic.reshape(rows, height, columns, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(math.prod((rows, columns)), *shape)
