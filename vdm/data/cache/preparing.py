"""Material of a source -> prepared folder: canonical order, held-out images, bits, hashes, manifest."""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import Material, ProgressFn, check_layout, check_levels
from vdm.data.cache import bit_depth, canonical, prepared
from vdm.errors import ConfigError, DataError, DiskError

HELD_OUT = 1000
"""Images held out of "train" where a set has no validation split, but at most a twentieth."""
_RESERVE_BYTES = 2**24


@dataclasses.dataclass(frozen=True)
class Plan:
    """How material becomes train, validation and test.

    Attributes:
      bits: bits kept per channel; None = all.
      num_validation: images held out where there is no validation split; None = HELD_OUT.
      test_split: the material's split that is evaluated; None = "test", or else a twentieth is drawn.
    """

    bits: int | None = None
    num_validation: int | None = None
    test_split: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Some of a split's images, in canonical order."""

    origin: str
    order: np.ndarray


def write_material(
    root: Path,
    name: str,
    material: Material,
    plan: Plan,
    progress: ProgressFn,
    expected: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Writes `material` into the cache `root`.

    Args:
      root: the cache.
      name: the data set's name.
      material: what its source gave.
      plan: how it is split and quantised.
      progress: is told how far it is.
      expected: pixel hashes by split that the material must have; {} or None for any.

    Returns:
      The facts that `vdm.data.cache.catalogue.record` takes, and labels and index by split.

    Raises:
      DataError: unsuitable images, or others than expected.
      ConfigError: a plan that does not fit them.
      DiskError: no room.
    """
    where = f"data {name!r}"
    check_layout(material.images, where)
    check_levels(material.images, material.num_levels, where)
    shift = bit_depth.shift_for(material.num_levels, plan.bits, where)
    check_space(root, sum(a.nbytes for a in material.images.values()))
    hashes, pixel_hashes = _hash_splits(material, progress)
    _check_expected(name, pixel_hashes, expected or {})
    parts, notes = _divide(material, hashes, plan, where)
    notes = [*material.notes, *_missing_notes(material), *notes]
    if shift:
        notes.append(bit_depth.describe(material.num_levels, shift))
    facts = {
        "name": name,
        "num_levels": material.num_levels >> shift,
        "notes": "; ".join(notes),
        "source": dict(material.source),
        "source_split_sizes": {s: len(a) for s, a in material.images.items()},
        "missing": {s: np.asarray(m).tolist() for s, m in material.missing.items() if len(m)},
        "pixel_sha256": pixel_hashes,
    }
    total = sum(len(part.order) for part in parts.values())
    done = [0]
    splits = {
        split: prepared.Split(
            (len(part.order), *material.images[part.origin].shape[1:]),
            functools.partial(_chunks, material, part, shift, progress, done, total),
        )
        for split, part in parts.items()
    }
    facts["content_hash"] = prepared.write(root, splits, facts)
    return facts, {kind: _per_image(material, parts, kind) for kind in ("labels", "index")}


def check_space(root: Path, num_bytes: int) -> None:
    """DiskError unless `root` has room for `num_bytes` more. Makes nothing."""
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes + _RESERVE_BYTES:
        raise DiskError(
            f"{root}: {num_bytes / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free; "
            "free space or set VDM_DATA_DIR to another disk"
        )


def _hash_splits(material: Material, progress: ProgressFn):
    hashes, pixel_hashes = {}, {}
    total, done = sum(len(a) for a in material.images.values()), 0
    for split, images in material.images.items():
        hashes[split] = canonical.image_hashes(images, material.num_levels)
        pixel_hashes[split] = canonical.pixel_hash(
            hashes[split], images.shape[1:], material.num_levels
        )
        done += len(images)
        progress("hashing", done, total)
    return hashes, pixel_hashes


def _check_expected(name: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    for split, digest in expected.items():
        if found.get(split) != digest:
            raise DataError(
                f"data {name!r}: the pixels of {split} have SHA-256 {found.get(split)}, but those "
                f"of the published set {digest}; the files hold other images, or were altered"
            )


def _divide(
    material: Material, hashes: Mapping[str, np.ndarray], plan: Plan, where: str
) -> tuple[dict[str, _Part], list[str]]:
    """train, validation and test, each in canonical order."""
    order = {s: canonical.canonical_order(h, material.labels.get(s)) for s, h in hashes.items()}
    notes, train = [], order["train"]
    test_split = plan.test_split or "test"
    if test_split in order:
        test = _Part(test_split, order[test_split])
    else:
        size = _held_out_size(len(train), None, where)
        test, train = _Part("train", train[:size]), train[size:]
        notes.append(
            f"test is {size} of {len(order['train'])} images, those with the least SHA-256"
        )
    if "validation" in order and test_split != "validation":
        validation = _Part("validation", order["validation"])
        if plan.num_validation is not None:
            raise ConfigError(
                f"data.num_validation={plan.num_validation}: {where} has a validation split; "
                "leave it unset"
            )
    else:
        size = _held_out_size(len(train), plan.num_validation, where)
        notes.append(
            f"validation is {size} of {len(train)} training images, those with the least SHA-256"
        )
        validation, train = _Part("train", train[:size]), train[size:]
    return {"train": _Part("train", train), "validation": validation, "test": test}, notes


def _held_out_size(num_images: int, asked: int | None, where: str) -> int:
    size = max(1, min(HELD_OUT, num_images // 20)) if asked is None else asked
    if asked is not None and not 1 <= asked < num_images:
        raise ConfigError(
            f"data.num_validation={asked}: {where} has {num_images} training images; "
            f"choose 1..{num_images - 1}"
        )
    if size >= num_images:
        raise DataError(f"{where}: {num_images} images are too few to split; at least 3 are needed")
    return size


def _missing_notes(material: Material) -> list[str]:
    lacking = {split: len(missing) for split, missing in material.missing.items() if len(missing)}
    if not lacking:
        return []
    whole = sum(len(a) for a in material.images.values()) + sum(lacking.values())
    listed = ", ".join(f"{number} of {split}" for split, number in lacking.items())
    return [
        f"{sum(lacking.values())} of {whole} published images are missing ({listed}): "
        "not quite the published set"
    ]


def _chunks(
    material: Material, part: _Part, shift: int, progress: ProgressFn, done: list[int], total: int
) -> Iterator[np.ndarray]:
    images = material.images[part.origin]
    size = max(1, prepared.BLOCK_BYTES // images[:1].nbytes)
    for start in range(0, len(part.order), size):
        rows = part.order[start : start + size]
        yield bit_depth.reduce_levels(images[rows], shift)
        done[0] += len(rows)
        progress("writing", done[0], total)


def _per_image(material: Material, parts: Mapping[str, _Part], kind: str) -> dict:
    """Labels or original positions of every split, where the source knows them."""
    known = getattr(material, kind)
    return {s: np.asarray(known[p.origin])[p.order] for s, p in parts.items() if p.origin in known}
