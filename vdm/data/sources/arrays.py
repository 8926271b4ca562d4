"""A user's own images: a `.npz` with named splits, or a `.npy` that is split here."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vdm.data.base import SPLIT_SEED, check_layout, check_levels, split_permutation
from vdm.data.reading.npy import map_npy, read_npz
from vdm.errors import ConfigError, DataError

_SPLITS = ("train", "validation", "test")
_SINGLE = "(the only one)"  # the name of a .npy file's array in messages


def source(
    path: str | os.PathLike, num_levels: int | None = None
) -> tuple[Mapping[str, np.ndarray], int, str]:
    """Read integer images [N,H,W,C], or [N,H,W] with one channel.

    Args:
      path: a `.npz` with arrays "train", "test" and perhaps "validation" (otherwise 5 % of train
        becomes it), or a `.npy` with one array, split 90/5/5. Splits made here are seeded. Arrays
        stay on disk unless they are compressed, see `vdm.data.reading.npy`.
      num_levels: integer codes per channel, 2 .. 65,536; None takes 256 for uint8 and 65,536 for
        uint16.

    Returns:
      The arrays by split, the number of levels, and notes on any split made here.

    Raises:
      DataError: the file is missing, unreadable, or holds unsuitable arrays.
      ConfigError: num_levels is out of range, or needed and not given.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise ConfigError(f"data.arrays.path={path!r}: give the path of a .npz or .npy file")
    path = Path(os.path.expanduser(path))  # pathlib's own raises for an unknown ~user
    stored = {n: a[..., None] if a.ndim == 3 else a for n, a in _read(path).items()}
    check_layout(stored, str(path))
    num_levels = _default_levels(stored, path) if num_levels is None else num_levels
    check_levels(stored, num_levels, str(path))
    splits, notes = _split(stored, path)
    return splits, num_levels, notes


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, or a DataError that says what is wrong with it."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a .npz or .npy file")
    try:
        return _load(path)
    except DataError:
        raise
    # A malformed file can make numpy, zipfile and zlib raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}); write integer arrays with np.savez or np.save "
            "(pickled objects are never loaded)"
        ) from None


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz, or the single one of a .npy."""
    with open(path, "rb") as file:
        is_npz = file.read(2) == b"PK"  # the name is no evidence
    if not is_npz:
        return {_SINGLE: map_npy(path)}
    return read_npz(path, lambda names: _check_names(names, path))


def _check_names(names: Sequence[str], path: Path) -> None:
    """Refuse a .npz without train or test, or with names that are not known."""
    for name in ("train", "test"):
        if name not in names:
            present = ", ".join(names) or "none"
            raise DataError(
                f"{path}: no array {name!r} (found: {present}); both train and test are needed"
            )
    for name in names:
        # Ignoring "val" or "valid" would silently validate on training images instead.
        if name not in _SPLITS:
            listed = ", ".join(_SPLITS)
            raise DataError(
                f"{path}: unknown array {name!r}; rename it to one of {listed}, or drop it"
            )


def _default_levels(arrays: Mapping[str, np.ndarray], path: Path) -> int:
    """Return the number of levels that unsigned dtypes imply; others need num_levels."""
    types = {(array.dtype.kind, array.dtype.itemsize) for array in arrays.values()}
    if types == {("u", 1)}:
        return 256
    if types == {("u", 2)}:
        return 65_536
    dtypes = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
    raise ConfigError(
        f"num_levels=None: {path} holds {dtypes}; only uint8 (256) and uint16 (65536) imply "
        "a number of levels, so give num_levels in 2..65536"
    )


def _split(arrays: Mapping[str, np.ndarray], path: Path) -> tuple[Mapping[str, np.ndarray], str]:
    """Return train, validation and test, and a note on splits that were made here."""
    if _SINGLE in arrays:
        return _split_single(arrays[_SINGLE], path)
    if "validation" in arrays:
        return arrays, ""
    train, validation = _held_out(arrays["train"], 1, path)
    notes = (
        f"validation is {len(validation)} of the {len(arrays['train'])} images stored as train, "
        f"drawn by seed {SPLIT_SEED}"
    )
    return {"train": train, "validation": validation, "test": arrays["test"]}, notes


def _split_single(images: np.ndarray, path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Return train, validation and test of one array, and a note."""
    splits = dict(zip(_SPLITS, _held_out(images, 2, path), strict=True))
    sizes = "/".join(str(len(split)) for split in splits.values())
    notes = f"train/validation/test {sizes} drawn from one array by seed {SPLIT_SEED}"
    return splits, notes


def _held_out(images: np.ndarray, num_parts: int, path: Path) -> list[np.ndarray]:
    """Return seeded random parts of `images`: the rest first, then `num_parts` parts of 5 % each."""
    size = max(1, len(images) // 20)
    num_rest = len(images) - num_parts * size
    if num_rest < 1:
        raise DataError(
            f"{path}: {len(images)} images are too few to split; at least {num_parts + 1} needed"
        )
    order = split_permutation(len(images))
    cuts = [num_rest + part * size for part in range(num_parts)]
    return [images[indices] for indices in np.split(order, cuts)]
