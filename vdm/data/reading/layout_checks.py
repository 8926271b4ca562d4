"""Checks that folders of images can be read in one way only.

An error shows both readings and what to do for each. All functions take {name of an image: the
folders that it lies in, from the top}.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from vdm.data.reading.split_names import SPLITS, is_split_alone, split_of, split_of_file, splits_in
from vdm.errors import DataError

Folders = tuple[str, ...]
_SHOWN = 6
"""Names that a message lists at most."""
_FEW_FILES = 0.01
"""Share of the training files that may have a name such as test_001.png by chance."""


def without_enclosing(folders: Mapping[str, Folders]) -> dict[str, Folders]:
    """Return the folders of each image below those that hold all images."""
    depth = len(enclosing(folders))
    return {name: parts[depth:] for name, parts in folders.items()}


def enclosing(folders: Mapping[str, Folders]) -> Folders:
    """Return the folders, from the top, that hold all images."""
    # The first and the last in sorted order suffice: a prefix common to both is common to all.
    first, last = min(folders.values()), max(folders.values())
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: same.index(False) if False in same else len(same)]


def check_pool(folders: Mapping[str, Folders], where: str) -> None:
    """Raise DataError if folders of a pool mention splits."""
    inside = without_enclosing(folders)
    if any(map(splits_in, {part for parts in inside.values() for part in parts})):
        raise _refusal(where, folders, _describe(inside), "move or rename what belongs to none")
    _check_enclosing(folders, {"train"}, where)


def check_splits(
    folders: Mapping[str, Folders],
    depth: int,
    below: Mapping[str, Mapping[str, Folders]],
    where: str,
) -> None:
    """Raise DataError if there is more than one reading of splits.

    Args:
      folders: folders of each image.
      depth: level of the splits' folders, below those that hold all images.
      below: folders of each image below its split's, by split.
      where: path that opens the message.
    """
    inside = without_enclosing(folders)
    refuse = functools.partial(_refusal, where, folders)
    _check_level(inside, depth, refuse)
    if "train" not in below:
        raise refuse(_describe(inside) + ", and nothing to train on", "add a folder train/")

    # With the folders above the split too, so that the classes of different splits can be
    # compared.
    within = {
        split: {inside[name][:depth] + parts for name, parts in split_folders.items()}
        for split, split_folders in below.items()
    }
    _check_within(within, inside, refuse)
    _check_enclosing(folders, set(below), where)


def check_files(names: Sequence[str], folders: Mapping[str, Folders], where: str) -> None:
    """Raise DataError if many training images are named as held out, such as test_001.png.

    A single one, or a share below _FEW_FILES, may have such a name by chance.

    Args:
      names: names of the training images.
      folders: folders of each image.
      where: path that opens the message.
    """
    splits = [split_of_file(PurePosixPath(name).stem) for name in names]
    held_out = [n for n, split in zip(names, splits, strict=True) if split in SPLITS[1:]]
    if len(set(splits)) > 1 and len(held_out) >= max(2, _FEW_FILES * len(names)):
        what = f"{len(held_out)} files are named as validation or test, such as {held_out[0]}"
        raise _refusal(where, folders, what, "put each split into a folder of its own")


def _check_level(inside: Mapping[str, Folders], depth: int, refuse) -> None:
    """Raise unless all splits lie on one level, each in one folder."""
    if any(map(splits_in, {part for parts in inside.values() for part in parts[:depth]})):
        raise refuse(_describe(inside), "rename what is no split")

    # val/ beside valid/ could be two splits or one in two parts.
    spelled: dict[tuple, set[str]] = defaultdict(set)
    for parts in inside.values():
        spelled[parts[:depth], split_of(parts[depth])].add(parts[depth])
    for (_, split), spellings in spelled.items():
        if len(spellings) > 1:
            listed = " and ".join(f"{name}/" for name in sorted(spellings))
            raise refuse(f"{_describe(inside)}, of which {listed} are both {split}", "merge them")


def _check_within(
    classes: Mapping[str, set[Folders]], inside: Mapping[str, Folders], refuse
) -> None:
    """Raise unless split names below a split are classes: in all splits, among other classes.

    Args:
      classes: {split: folders of each class, below the split and above it}, without the split's own.
      inside: {image: its folders}, for the message.
      refuse: (reading, fix) -> the error to raise.
    """
    named = [
        {c for c in split_classes if any(map(_is_doubtful, c))}
        for split_classes in classes.values()
    ]
    if any(split_classes != named[0] for split_classes in named) or any(
        map(set.__eq__, named, classes.values())
    ):
        listed = ", ".join(sorted("/".join(c) for c in set().union(*named))[:_SHOWN])
        raise refuse(f"{_describe(inside)}, with splits within splits ({listed})", "rename these")


def _is_doubtful(part: str) -> bool:
    """Return whether a folder within a split may be another split; class "bullet_train" may not."""
    return split_of(part) is not None or bool(splits_in(part) - {"train"})


def _check_enclosing(folders: Mapping[str, Folders], splits: set[str], where: str) -> None:
    """Require that folders around all images name no split other than the one that is there."""
    names = [part for part in enclosing(folders) if split_of(part)]
    if splits == {"train"}:
        wrong, within = [part for part in names if split_of(part) != "train"], ""
        fix = "add images to train on"
    else:
        wrong = list(filter(is_split_alone, names))
        within = f", or {_describe(without_enclosing(folders))} within it"
        fix = "give the folder within"
    if wrong:
        what = f"all {len(folders)} images are {split_of(wrong[0])}, being in {wrong[0]}/{within}"
        raise _refusal(where, folders, what, f"{fix}, or rename {wrong[0]}/")


def _describe(inside: Mapping[str, Folders]) -> str:
    """Return text that lists the folders that could be splits, and the others beside them."""
    splits: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for parts in inside.values():
        level = next((i for i, part in enumerate(parts) if splits_in(part)), None)
        if level is None:
            others["/".join(parts[:1]) + "/" if parts else "no folder"] += 1
        else:
            splits["/".join(parts[: level + 1]) + "/"] += 1
    beside = f"; {_listed(others)} belong to none" if others else ""
    return f"splits {_listed(splits)}{beside}"


def _listed(counts: Mapping[str, int]) -> str:
    """Return names with their numbers of images, the first few of many."""
    shown = [f"{name} ({number})" for name, number in sorted(counts.items())[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _refusal(where: str, folders: Mapping[str, Folders], first: str, fix: str) -> DataError:
    """Return the error that shows both readings, and what to do for each.

    Args:
      where: path that opens the message.
      folders: folders of each image.
      first: the reading with splits, in words.
      fix: what to do for it.
    """
    classes = sorted({"/".join(parts) for parts in without_enclosing(folders).values()} - {""})
    more = ", ..." if len(classes) > _SHOWN else ""
    of = f" of classes {', '.join(classes[:_SHOWN])}{more}" if classes else ""
    return DataError(
        f"{where}: two readings are possible: (1) {first}; (2) one pool of {len(folders)} images{of}, "
        f"split by hash. For (1) {fix}; for (2) set data.folder.splits=none"
    )
