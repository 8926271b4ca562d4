"""Which split and class each image of a folder or archive belongs to: a function of their names alone.

Folders around all images count for nothing. Below them lie splits (train/cat/1.png), classes of splits
(cat/train/1.png), or one pool that is split by hash (cat/1.png). What could be read in two ways is
refused with both: a split's name among classes, one split under two names, a file of no split.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from vdm.data.reading import layout_checks as checks
from vdm.data.reading.layout_checks import Folders, enclosing, without_enclosing
from vdm.data.reading.split_names import SPLITS, is_unlabelled, split_of, splits_in
from vdm.errors import choose

READINGS = {"auto": True, "none": False}
"""Whether folders can be splits."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Images by split, and their classes.

    Attributes:
      names: sorted names of the images of each split; a pool is all "train".
      class_of: the class of each image, "" without one.
      left_out: number of images of no split, by folder.
      notes: facts that must stand beside every number.
    """

    names: Mapping[str, Sequence[str]]
    class_of: Mapping[str, str]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_pool(self) -> bool:
        """Whether all images are one pool."""
        return list(self.names) == ["train"] and not self.left_out

    @functools.cached_property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(set(self.class_of.values()) - {""})

    @functools.cached_property
    def places(self) -> dict[str, tuple[str, int]]:
        """{name: (split, position in the split)}."""
        return {n: (s, i) for s, names in self.names.items() for i, n in enumerate(names)}

    def labels(self, split: str) -> np.ndarray:
        """Number of the class of each image; -1 for images outside of any."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(self.class_of[name], -1) for name in self.names[split]])


def read_layout(names: Sequence[str], where: str, splits: str = "auto") -> Layout:
    """The layout of images called `names`, with forward slashes.

    Args:
      names: of at least one image, below the folder or in the archive.
      where: opens the message of an error.
      splits: "auto" recognises folders of splits; "none" takes every folder for a class.

    Raises:
      ConfigError: no such way of reading them.
      DataError: two readings are possible, or no image would be trained on.
    """
    folders = {name: PurePosixPath(name).parts[:-1] for name in sorted(names)}
    if not choose("data.folder.splits", splits, READINGS, "reading of folders"):
        return _pool(folders)
    inside = without_enclosing(folders)
    extra = {name: parts[0] for name, parts in inside.items() if _is_extra(parts)}
    kept = {name: parts for name, parts in folders.items() if name not in extra}
    if extra and kept:
        found = _read(kept, where)
        if found.names.keys() != {"train"} or _named(kept):
            return _leave_out(found, Counter(extra.values()))
    return _read(folders, where)


def _read(folders: Mapping[str, Folders], where: str) -> Layout:
    inside = without_enclosing(folders)
    depth = _split_depth(inside)
    if depth is not None:
        found = _splits(folders, depth, where)
    else:
        checks.check_pool(folders, where)
        found = _pool(folders)
    if "test" not in found.names:
        checks.check_files(found.names["train"], folders, where)
    return found


def _pool(folders: Mapping[str, Folders]) -> Layout:
    inside = without_enclosing(folders)
    return Layout({"train": sorted(folders)}, {n: "/".join(p) for n, p in inside.items()})


def _splits(folders: Mapping[str, Folders], depth: int, where: str) -> Layout:
    """Splits `depth` folders below what encloses all images."""
    inside = without_enclosing(folders)
    grouped: dict[str, dict[str, Folders]] = {split: {} for split in SPLITS}
    for name, parts in inside.items():
        grouped[split_of(parts[depth])][name] = parts[depth + 1 :]  # type: ignore[index]
    below = {split: _unrepeated(split, found) for split, found in grouped.items() if found}
    checks.check_splits(folders, depth, below, where)
    classes = {n: inside[n][:depth] + p for found in below.values() for n, p in found.items()}
    notes = () if "test" in below else ("no folder holds test images: some of train are taken",)
    return Layout(
        {split: sorted(found) for split, found in below.items()},
        {name: "/".join(parts) for name, parts in without_enclosing(classes).items()},
        notes=notes,
    )


def _unrepeated(split: str, below: Mapping[str, Folders]) -> dict[str, Folders]:
    """Folders of each image below its split's, without that name again: train/train/cat/1.png."""
    repeated = [split_of(part) == split for part in enclosing(below)]
    depth = repeated.index(False) if False in repeated else len(repeated)
    return {name: parts[depth:] for name, parts in below.items()}


def _split_depth(inside: Mapping[str, Folders]) -> int | None:
    """The first level at which every image lies in a folder that names a split."""
    for depth in range(min(map(len, inside.values()))):
        if all(split_of(name) for name in {parts[depth] for parts in inside.values()}):
            return depth
    return None


def _is_extra(inside: Folders) -> bool:
    """Whether images lie in a folder such as unlabeled/, in no split."""
    for part in inside:
        if splits_in(part):
            return False
        if is_unlabelled(part):
            return True
    return False


def _named(folders: Mapping[str, Folders]) -> bool:
    """Whether what encloses all images names a split."""
    return any(map(split_of, enclosing(folders)))


def _leave_out(found: Layout, extra: Mapping[str, int]) -> Layout:
    listed = ", ".join(f"{number} in {folder}/" for folder, number in sorted(extra.items()))
    note = f"images of no split are left out: {listed}"
    return dataclasses.replace(found, left_out=dict(extra), notes=(*found.notes, note))
