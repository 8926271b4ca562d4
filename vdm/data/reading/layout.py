"""The split and class of each image of a folder or archive, as a function of file names alone.

Folders around all images count for nothing. Below them lie splits (train/cat/1.png), classes of
splits (cat/train/1.png), or one pool that is split by hash (cat/1.png). Names that could be read
in two ways are refused, with both readings in the message: a split's name among classes, one split
under two names, a file of no split.
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
"""Readings of folders by name, and whether folders can be splits."""


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
        """True if all images are one pool."""
        return list(self.names) == ["train"] and not self.left_out

    @functools.cached_property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted(set(self.class_of.values()) - {""})

    @functools.cached_property
    def places(self) -> dict[str, tuple[str, int]]:
        """The place of each image, {name: (split, position in the split)}."""
        return {n: (s, i) for s, names in self.names.items() for i, n in enumerate(names)}

    def labels(self, split: str) -> np.ndarray:
        """Return the number of the class of each image [N]; -1 for images outside of any class."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(self.class_of[name], -1) for name in self.names[split]])


def read_layout(names: Sequence[str], where: str, splits: str = "auto") -> Layout:
    """Return the layout of the images called `names`, with forward slashes.

    Args:
      names: names of at least one image, below the folder or in the archive.
      where: path that opens the message of an error.
      splits: "auto" recognises folders of splits; "none" takes every folder for a class.

    Raises:
      ConfigError: no such reading.
      DataError: two readings are possible, or no image would be trained on.
    """
    folders = {name: PurePosixPath(name).parts[:-1] for name in sorted(names)}
    if not choose("data.folder.splits", splits, READINGS, "reading of folders"):
        return _pool(folders)

    # A folder such as unlabeled/ beside the splits belongs to none of them: it is left out and
    # counted. In a pool without splits it is a class like any other.
    inside = without_enclosing(folders)
    extra = {name: parts[0] for name, parts in inside.items() if _is_extra(parts)}
    remaining = {name: parts for name, parts in folders.items() if name not in extra}
    if extra and remaining:
        layout = _read(remaining, where)
        if layout.names.keys() != {"train"} or _named(remaining):
            return _leave_out(layout, Counter(extra.values()))
    return _read(folders, where)


def _read(folders: Mapping[str, Folders], where: str) -> Layout:
    """Return the layout of images that all belong to a split or to one pool."""
    inside = without_enclosing(folders)
    depth = _split_depth(inside)
    if depth is not None:
        layout = _splits(folders, depth, where)
    else:
        checks.check_pool(folders, where)
        layout = _pool(folders)
    # Without test images some of train would be held out, among them perhaps files called
    # test_001.png.
    if "test" not in layout.names:
        checks.check_files(layout.names["train"], folders, where)
    return layout


def _pool(folders: Mapping[str, Folders]) -> Layout:
    """Return the layout in which every folder is a class."""
    inside = without_enclosing(folders)
    return Layout({"train": sorted(folders)}, {n: "/".join(p) for n, p in inside.items()})


def _splits(folders: Mapping[str, Folders], depth: int, where: str) -> Layout:
    """Return the layout with splits `depth` folders below those that hold all images."""
    inside = without_enclosing(folders)
    grouped: dict[str, dict[str, Folders]] = {split: {} for split in SPLITS}
    for name, parts in inside.items():
        grouped[split_of(parts[depth])][name] = parts[depth + 1 :]  # type: ignore[index]
    below = {
        split: _unrepeated(split, split_folders)
        for split, split_folders in grouped.items()
        if split_folders
    }
    checks.check_splits(folders, depth, below, where)

    # A class is what remains of the path without the split: cat/train/1.png and train/cat/1.png
    # agree.
    classes = {
        n: inside[n][:depth] + p
        for split_folders in below.values()
        for n, p in split_folders.items()
    }
    notes = () if "test" in below else ("no folder holds test images: some of train are taken",)
    return Layout(
        {split: sorted(split_folders) for split, split_folders in below.items()},
        {name: "/".join(parts) for name, parts in without_enclosing(classes).items()},
        notes=notes,
    )


def _unrepeated(split: str, below: Mapping[str, Folders]) -> dict[str, Folders]:
    """Return folders of each image below its split's, where train/train/ counts as one folder."""
    repeated = [split_of(part) == split for part in enclosing(below)]
    depth = repeated.index(False) if False in repeated else len(repeated)
    return {name: parts[depth:] for name, parts in below.items()}


def _split_depth(inside: Mapping[str, Folders]) -> int | None:
    """Return the first level at which every image lies in a folder that names a split."""
    for depth in range(min(map(len, inside.values()))):
        if all(split_of(name) for name in {parts[depth] for parts in inside.values()}):
            return depth
    return None


def _is_extra(inside: Folders) -> bool:
    """Return whether images lie in a folder such as unlabeled/, in no split."""
    for part in inside:
        if splits_in(part):
            return False
        if is_unlabelled(part):
            return True
    return False


def _named(folders: Mapping[str, Folders]) -> bool:
    """Return whether a folder that holds all images names a split."""
    return any(map(split_of, enclosing(folders)))


def _leave_out(layout: Layout, extra: Mapping[str, int]) -> Layout:
    """Return the layout with a note on the images that belong to no split."""
    listed = ", ".join(f"{number} in {folder}/" for folder, number in sorted(extra.items()))
    note = f"images of no split are left out: {listed}"
    return dataclasses.replace(layout, left_out=dict(extra), notes=(*layout.notes, note))
