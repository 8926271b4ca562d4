"""Raw data set -> prepared folder: canonical order, held-out images, bits, hashes, manifest."""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import ProgressFn, RawDataset, check_layout, check_levels
from vdm.data.cache import bit_depth, canonical, content, prepared
from vdm.errors import ConfigError, DataError, DiskError

HELD_OUT = 1000
"""Images held out of "train" where a set has no validation split, but at most a twentieth of them."""
_RESERVE_BYTES = 2**24
"""Disk space that must be left besides the pixels, for manifests, labels and positions."""


@dataclasses.dataclass(frozen=True)
class PreparationOptions:
    """Options by which a raw data set becomes train, validation and test.

    Attributes:
      bits: bits kept per channel; None keeps all.
      num_validation: images held out where there is no validation split; None for HELD_OUT.
      test_split: the raw split that is evaluated; None for "test", or a twentieth of train where
        there is none.
    """

    bits: int | None = None
    num_validation: int | None = None
    test_split: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Subset:
    """Some of a raw split's images, in canonical order.

    Attributes:
      origin: name of the raw split.
      order: positions in it [N].
    """

    origin: str
    order: np.ndarray


def write_raw_dataset(
    root: Path,
    name: str,
    raw: RawDataset,
    options: PreparationOptions,
    progress: ProgressFn,
    expected: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Write `raw` into the cache `root`.

    Args:
      root: the cache.
      name: the data set's name.
      raw: the data as the source gave them.
      options: the split and the bit depth.
      progress: called with how far hashing and writing are.
      expected: pixel hashes by split that the raw data must have; {} or None for any.

    Returns:
      The facts that `vdm.data.cache.catalogue.record` takes, and labels and index by split.

    Raises:
      DataError: unsuitable images, or others than expected.
      ConfigError: options that do not fit them.
      DiskError: no room.
    """
    where = f"data {name!r}"

    # All that can be refused is refused before the first byte is written.
    check_layout(raw.images, where)
    check_levels(raw.images, raw.num_levels, where)
    shift = bit_depth.shift_for(raw.num_levels, options.bits, where)
    check_space(root, sum(a.nbytes for a in raw.images.values()))

    # Every image is hashed once: its hash decides its place, and whether the set is the published
    # one.
    hashes, pixel_hashes = _hash_splits(raw, progress)
    _check_expected(name, pixel_hashes, expected or {})
    subsets, notes = _divide(raw, hashes, options, where)
    notes = [*raw.notes, *_missing_notes(raw), *notes]
    if shift:
        notes.append(bit_depth.describe(raw.num_levels, shift))

    # The manifest says all that a reader of a number may ask: where the pixels came from, what is
    # missing, and what was done to them.
    facts = {
        "name": name,
        "num_levels": raw.num_levels >> shift,
        "notes": "; ".join(notes),
        "source": dict(raw.source),
        "source_split_sizes": {s: len(a) for s, a in raw.images.items()},
        "missing": {s: np.asarray(m).tolist() for s, m in raw.missing.items() if len(m)},
        "pixel_sha256": pixel_hashes,
    }

    # A list of one number, which all splits count up: progress runs over the whole set.
    total = sum(len(subset.order) for subset in subsets.values())
    num_done = [0]
    splits = {
        split: prepared.Split(
            (len(subset.order), *raw.images[subset.origin].shape[1:]),
            functools.partial(_chunks, raw, subset, shift, progress, num_done, total),
        )
        for split, subset in subsets.items()
    }

    # Labels and positions follow their images into the new splits.
    facts["content_hash"] = prepared.write(root, splits, facts)
    return facts, {kind: _per_image(raw, subsets, kind) for kind in ("labels", "index")}


def check_space(root: Path, num_bytes: int) -> None:
    """Raise DiskError unless `root` has room for `num_bytes` more; nothing is created."""
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes + _RESERVE_BYTES:
        raise DiskError(
            f"{root}: {num_bytes / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free, of "
            f"which {_RESERVE_BYTES / 2**30:.2f} GiB stay in reserve; free space or set VDM_DATA_DIR "
            "to another disk"
        )


def _hash_splits(raw: RawDataset, progress: ProgressFn):
    """Return {split: SHA-256 of each image [N,32]} and {split: pixel hash (hex)}."""
    hashes, pixel_hashes = {}, {}
    total, done = sum(len(a) for a in raw.images.values()), 0
    for split, images in raw.images.items():
        hashes[split] = canonical.image_hashes(images, raw.num_levels)
        pixel_hashes[split] = canonical.pixel_hash(hashes[split], images.shape[1:], raw.num_levels)
        done += len(images)
        progress("hashing", done, total)
    return hashes, pixel_hashes


def _check_expected(
    name: str, pixel_hashes: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    """Raise DataError unless the pixels are those of the published set."""
    for split, digest in expected.items():
        if pixel_hashes.get(split) != digest:
            raise DataError(
                f"data {name!r}: the pixels of {split} have SHA-256 {pixel_hashes.get(split)}, "
                f"but those of the published set {digest}; the files hold other images, or were "
                "altered"
            )


def _divide(
    raw: RawDataset, hashes: Mapping[str, np.ndarray], options: PreparationOptions, where: str
) -> tuple[dict[str, _Subset], list[str]]:
    """Return train, validation and test in canonical order, and notes on splits made here.

    Args:
      raw: the data as the source gave them.
      hashes: SHA-256 of each image, by raw split.
      options: the options of the split.
      where: name of the data in messages.
    """
    order = {s: canonical.canonical_order(h, raw.labels.get(s)) for s, h in hashes.items()}
    notes, train = [], order["train"]

    # The smallest hashes are a fair draw, and the same one on every machine, see
    # `vdm.data.cache.canonical`. Test images are taken before validation images, so that
    # num_validation does not change the test set.
    test_split = options.test_split or "test"
    if test_split in order:
        test = _Subset(test_split, order[test_split])
    else:
        size = _held_out_size(len(train), None, where)
        test, train = _Subset("train", train[:size]), train[size:]
        notes.append(
            f"test is {size} of {len(order['train'])} images, those with the least SHA-256"
        )

    # A published validation split is used as it is, unless papers report numbers on it: it is then
    # the test split, and validation images come from train.
    if "validation" in order and test_split != "validation":
        validation = _Subset("validation", order["validation"])
        if options.num_validation is not None:
            raise ConfigError(
                f"data.num_validation={options.num_validation}: {where} has a validation split; "
                "leave it unset"
            )
    else:
        size = _held_out_size(len(train), options.num_validation, where)
        notes.append(
            f"validation is {size} of {len(train)} training images, those with the least SHA-256"
        )
        validation, train = _Subset("train", train[:size]), train[size:]
    return {"train": _Subset("train", train), "validation": validation, "test": test}, notes


def _held_out_size(num_images: int, num_requested: int | None, where: str) -> int:
    """Return the number of images to hold out, as asked for or by default."""
    size = max(1, min(HELD_OUT, num_images // 20)) if num_requested is None else num_requested
    if num_requested is not None and not 1 <= num_requested < num_images:
        raise ConfigError(
            f"data.num_validation={num_requested}: {where} has {num_images} training images; "
            f"choose 1..{num_images - 1}"
        )
    if size >= num_images:
        raise DataError(f"{where}: {num_images} images are too few to split; at least 3 are needed")
    return size


def _missing_notes(raw: RawDataset) -> list[str]:
    """Return the note on published images that the source lacks."""
    lacking = {split: len(missing) for split, missing in raw.missing.items() if len(missing)}
    if not lacking:
        return []
    whole = sum(len(a) for a in raw.images.values()) + sum(lacking.values())
    listed = ", ".join(f"{number} of {split}" for split, number in lacking.items())
    return [
        f"{sum(lacking.values())} of {whole} published images are missing ({listed}): "
        "not quite the published set"
    ]


def _chunks(
    raw: RawDataset, subset: _Subset, shift: int, progress: ProgressFn, done: list[int], total: int
) -> Iterator[np.ndarray]:
    """Yield the images of a subset with their low bits dropped, some megabytes at a time.

    Args:
      raw: the data as the source gave them.
      subset: which images, in which order.
      shift: low bits to drop.
      progress: called with the number of images written.
      done: a list that holds this number for all subsets together.
      total: images in all.
    """
    images = raw.images[subset.origin]
    size = max(1, content.BLOCK_BYTES // images[:1].nbytes)
    for start in range(0, len(subset.order), size):
        rows = subset.order[start : start + size]
        yield bit_depth.reduce_levels(images[rows], shift)
        done[0] += len(rows)
        progress("writing", done[0], total)


def _per_image(raw: RawDataset, subsets: Mapping[str, _Subset], kind: str) -> dict:
    """Return labels or original positions of every split, where the source knows them."""
    known = getattr(raw, kind)
    return {
        s: np.asarray(known[p.origin])[p.order] for s, p in subsets.items() if p.origin in known
    }
