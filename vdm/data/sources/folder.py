"""A folder, tar or zip of images: PNG, WebP, TIFF, BMP, JPEG; grey or RGB of 8 bits, grey of 16 or 1.

Folders of splits are recognised by their names (see `vdm.data.reading.layout`); without them all images
are one pool that is split by hash. Further folders are classes. Hidden files are passed over, files
that are no images are counted in the notes.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vdm.data.base import Material, ProgressFn, Recipe, fingerprint_files
from vdm.data.cache.spill import Spill
from vdm.data.reading.archives import is_archive, members
from vdm.data.reading.images import SUFFIXES, Resize, decode
from vdm.data.reading.layout import READINGS, Layout, read_layout
from vdm.errors import ConfigError, DataError, choose

MAX_PIXELS = 2**26
_MAX_BYTES = 2**29

Entry = tuple[str, Path | bytes]
"""(name with forward slashes, below the folder; path or content)."""


def recipe(
    source_dir: str | None = None,
    path: str = "",
    splits: str = "auto",
    crop: int = 0,
    size: int = 0,
    filter: str = "lanczos",
) -> Recipe:
    """Images below a folder, or in a tar or zip.

    Args:
      source_dir: unused: the folder is `path`.
      path: the folder or archive.
      splits: "auto" takes folders called train/, test/ and the like for splits; "none" takes every
        folder for a class, of one pool.
      crop, size, filter: see `vdm.data.reading.images.Resize`.

    Raises:
      ConfigError: an unsuitable option.
      DataError: there is no such folder.
    """
    del source_dir
    choose("data.folder.splits", splits, READINGS, "reading of folders")
    found, resize = check_path(path), Resize(crop, size, filter)
    name = f"folder:{found.resolve().name}"
    request = {"folder": fingerprint(found), "resize": dataclasses.asdict(resize)}
    return Recipe(
        name=name,
        request={**request, "splits": splits},
        read=lambda scratch, progress: read(found, splits, resize, scratch, progress),
        earlier_request=request,
    )


def fingerprint(path: Path) -> dict[str, Any]:
    """What changes when any file does."""
    return fingerprint_files([path] if is_archive(path) else _files(path), path)


def check_path(path: str) -> Path:
    """The folder or archive that an option names."""
    if not path:
        raise ConfigError("data.folder.path='': give a folder, or a tar or zip, of images")
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(
            f"{found}: no such folder or archive; give folder.path a folder, tar or zip of images"
        )
    if found.is_file() and not is_archive(found):
        raise DataError(f"{found}: is neither a folder nor a tar or zip")
    return found


def read(path: Path, splits: str, resize: Resize, scratch: Path, progress: ProgressFn) -> Material:
    """The images below `path`, sorted by name, with classes where there are sub-folders.

    Args:
      path: the folder or archive.
      splits: "auto" or "none", as in `recipe`.
      resize: what is done to each image.
      scratch: a folder for images that may not fit into memory.
      progress: is told how many images are read.

    Raises:
      DataError: no images, an unreadable one, images of different shapes or levels, or folders that
        can be read in two ways.
    """
    found, others = _names(path)
    layout = _layout(path, found, splits)
    names = [name for name in found if name in layout.places]
    spills = {split: Spill(scratch / f"{split}.raw") for split in layout.names}
    positions: dict[str, list[int]] = {split: [] for split in layout.names}
    kind, num_lossy = _Kind(), 0
    for done, (name, content) in enumerate(_entries(path, names), start=1):
        image, facts = decode(content, f"{path}/{name}", MAX_PIXELS)
        image = resize(image, f"{path}/{name}")
        kind.check(name, image, facts["num_levels"], path)
        split, position = layout.places[name]
        spills[split].append(image)
        positions[split].append(position)
        num_lossy += facts["lossy"]
        progress("reading images", done, len(names))
    index = {split: np.array(places) for split, places in positions.items()}
    notes = [*layout.notes, *_notes(resize, num_lossy, len(names), others)]
    return Material(
        images={split: spill.finish() for split, spill in spills.items()},
        num_levels=kind.num_levels,
        labels={split: layout.labels(split)[index[split]] for split in index if layout.classes},
        index=index,
        notes=tuple(filter(None, notes)),
        source={"format": "images", "classes": layout.classes},
    )


def image_names(path: Path) -> list[str]:
    """Names of all images below `path`, or in the archive, with forward slashes."""
    return _names(path)[0]


def holds_splits(names: Sequence[str]) -> bool:
    """Whether images of these names are more than one pool, or could be."""
    try:
        return bool(names) and not read_layout(names, "").is_pool
    except DataError:
        return True


def _layout(path: Path, names: Sequence[str], splits: str) -> Layout:
    if not names:
        raise DataError(f"{path}: holds no images ({', '.join(SUFFIXES)} are read)")
    return read_layout(names, str(path), splits)


class _Kind:
    """All images must be alike; remembers the first."""

    def __init__(self) -> None:
        self._first: tuple[str, tuple[int, ...]] | None = None
        self.num_levels = 0

    def check(self, name: str, image: np.ndarray, num_levels: int, path: Path) -> None:
        if self._first is None:
            self._first, self.num_levels = (name, image.shape), num_levels
        first, shape = self._first
        if image.shape != shape:
            raise DataError(
                f"{path}/{name}: has shape {image.shape}, but {first} {shape}; images must be "
                "alike: crop=N and size=N make them so (data.resize.crop, data.resize.size)"
            )
        if num_levels != self.num_levels:
            raise DataError(
                f"{path}/{name}: has {num_levels} levels, but {first} {self.num_levels}"
            )


def _names(path: Path) -> tuple[list[str], int]:
    """Names of all images, and how many files are none."""
    if is_archive(path):
        found: list[str] = []
        for _ in members(path, _collector(found), _MAX_BYTES):
            pass
    else:
        found = [file.relative_to(path).as_posix() for file in _files(path)]
    names = [name for name in found if name.lower().endswith(SUFFIXES)]
    return names, len(found) - len(names)


def _collector(names: list[str]) -> Callable[[str], bool]:
    def note(name: str) -> bool:
        if not any(part.startswith(".") for part in PurePosixPath(name).parts):
            names.append(name)
        return False

    return note


def _files(path: Path) -> list[Path]:
    try:
        found = [file for file in path.rglob("*") if file.is_file()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    hidden = [any(p.startswith(".") for p in file.relative_to(path).parts) for file in found]
    return sorted(file for file, skip in zip(found, hidden, strict=True) if not skip)


def _entries(path: Path, names: list[str]) -> Iterator[Entry]:
    """Every image, in the archive's order or sorted."""
    if not is_archive(path):
        yield from ((name, path / name) for name in sorted(names))
        return
    wanted = set(names)
    yield from members(path, lambda name: name in wanted, _MAX_BYTES)


def _notes(resize: Resize, num_lossy: int, num_images: int, others: int) -> list[str]:
    notes = [resize.describe()]
    if num_lossy:
        notes.append(
            f"{num_lossy} of {num_images} files were compressed with loss (JPEG, WebP): "
            "the model learns their artefacts too"
        )
    if others:
        notes.append(f"{others} files that are no images were passed over")
    return notes
