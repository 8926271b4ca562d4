"""A folder, tar or zip of images.

PNG, WebP, TIFF, BMP and JPEG are read: grey or RGB of 8 bits per channel, and grey of 16 bits or 1
bit. Folders of splits are recognised by their names (see `vdm.data.reading.layout`); without them
all images are one pool that is split by hash. Further folders are classes. Hidden files are
skipped, files that are no images are counted in the notes.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vdm.data.base import ProgressFn, RawDataset, Recipe, fingerprint_files
from vdm.data.cache.array_writer import ArrayWriter
from vdm.data.reading.archives import is_archive, members
from vdm.data.reading.images import SUFFIXES, Resize, decode
from vdm.data.reading.layout import READINGS, Layout, read_layout
from vdm.errors import ConfigError, DataError, choose

MAX_PIXELS = 2**26
"""Most pixels of an image, 67 million: larger ones are refused before they fill the memory."""
_MAX_BYTES = 2**28
"""Largest image file in an archive, in bytes; MAX_PIXELS of RGB without compression take 201 MB."""

Entry = tuple[str, Path | bytes]
"""An image: its name with forward slashes, below the folder, and its path or content."""


def recipe(
    source_dir: str | None = None,
    path: str = "",
    splits: str = "auto",
    crop: int = 0,
    size: int = 0,
    filter: str = "lanczos",
) -> Recipe:
    """Return the recipe of images below a folder, or in a tar or zip.

    Args:
      source_dir: unused, because `path` says where the files are.
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
    root, resize = check_path(path), Resize(crop, size, filter)
    name = f"folder:{root.resolve().name}"

    # Requests of earlier revisions had no `splits`: data prepared by them are still found.
    request = {"folder": fingerprint(root), "resize": dataclasses.asdict(resize)}
    return Recipe(
        name=name,
        request={**request, "splits": splits},
        read=lambda scratch, progress: read(root, splits, resize, scratch, progress),
        earlier_request=request,
    )


def fingerprint(path: Path) -> dict[str, Any]:
    """Return a record that changes when any of the files does."""
    return fingerprint_files([path] if is_archive(path) else _files(path), path)


def check_path(path: str) -> Path:
    """Return the folder or archive that an option names.

    Raises:
      ConfigError: no path.
      DataError: no such folder or archive.
    """
    if not path:
        raise ConfigError("data.folder.path='': give a folder, or a tar or zip, of images")
    existing = Path(os.path.expanduser(path))  # pathlib's own raises without a home
    if not existing.exists():
        raise DataError(
            f"{existing}: no such folder or archive; give folder.path a folder, tar or zip of images"
        )
    if existing.is_file() and not is_archive(existing):
        raise DataError(f"{existing}: is neither a folder nor a tar or zip")
    return existing


def read(
    path: Path, splits: str, resize: Resize, scratch: Path, progress: ProgressFn
) -> RawDataset:
    """Return the images below `path`, sorted by name, with classes where there are sub-folders.

    Args:
      path: the folder or archive.
      splits: "auto" or "none", as in `recipe`.
      resize: crop and size of each image.
      scratch: a folder for images that may not fit into memory.
      progress: called with the number of images read.

    Raises:
      DataError: no images, an unreadable one, images of different shapes or levels, or folders
        that can be read in two ways.
    """
    image_files, num_other_files = _names(path)

    # Names alone decide the layout, so that a doubtful folder is refused before any image is
    # decoded.
    layout = _layout(path, image_files, splits)
    names = [name for name in image_files if name in layout.places]

    # One pass, in the archive's own order: a compressed tar cannot be read out of order. Each
    # image goes to the file of its split, and its position is remembered.
    writers = {split: ArrayWriter(scratch / f"{split}.raw") for split in layout.names}
    positions: dict[str, list[int]] = {split: [] for split in layout.names}
    uniformity, num_lossy = _Uniformity(), 0
    for done, (name, content) in enumerate(_entries(path, names), start=1):
        image, facts = decode(content, f"{path}/{name}", MAX_PIXELS)
        image = resize(image, f"{path}/{name}")
        uniformity.check(name, image, facts["num_levels"], path)
        split, position = layout.places[name]
        writers[split].append(image)
        positions[split].append(position)
        num_lossy += facts["lossy"]
        progress("reading images", done, len(names))

    # The index restores the sorted order, which does not depend on how an archive was packed.
    index = {split: np.array(places) for split, places in positions.items()}
    notes = [*layout.notes, *_notes(resize, num_lossy, len(names), num_other_files)]
    return RawDataset(
        images={split: writer.finish() for split, writer in writers.items()},
        num_levels=uniformity.num_levels,
        labels={split: layout.labels(split)[index[split]] for split in index if layout.classes},
        index=index,
        notes=tuple(filter(None, notes)),
        source={"format": "images", "classes": layout.classes},
    )


def image_names(path: Path) -> list[str]:
    """Return the names of all images below `path`, or in the archive, with forward slashes."""
    return _names(path)[0]


def holds_splits(names: Sequence[str]) -> bool:
    """Return whether images of these names are more than one pool, or could be."""
    try:
        return bool(names) and not read_layout(names, "").is_pool
    except DataError:
        return True


def _layout(path: Path, names: Sequence[str], splits: str) -> Layout:
    """Return the layout of the images, or a DataError if there are none."""
    if not names:
        raise DataError(f"{path}: holds no images ({', '.join(SUFFIXES)} are read)")
    return read_layout(names, str(path), splits)


class _Uniformity:
    """A check that all images have the first one's shape and number of levels."""

    def __init__(self) -> None:
        self._first: tuple[str, tuple[int, ...]] | None = None
        self.num_levels = 0

    def check(self, name: str, image: np.ndarray, num_levels: int, path: Path) -> None:
        """Refuse an image that differs from the first.

        Args:
          name: its name below the folder.
          image: its codes [H,W,C].
          num_levels: its number of levels.
          path: the folder or archive, for the message.
        """
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
    """Return the names of all images, and the number of other files."""
    if is_archive(path):
        files: list[str] = []
        for _ in members(path, _collector(files), _MAX_BYTES):
            pass
    else:
        files = [file.relative_to(path).as_posix() for file in _files(path)]
    names = [name for name in files if name.lower().endswith(SUFFIXES)]
    return names, len(files) - len(names)


def _collector(names: list[str]) -> Callable[[str], bool]:
    """Return a function that wants no member of an archive, but notes every visible name."""

    def note(name: str) -> bool:
        if not any(part.startswith(".") for part in PurePosixPath(name).parts):
            names.append(name)
        return False

    return note


def _files(path: Path) -> list[Path]:
    """Return all visible files below a folder, sorted; links to folders are not followed.

    Raises:
      DataError: a folder that cannot be read, or a link that leads out of `path`.
    """
    root, files, folders = os.path.realpath(path), [], [str(path)]
    try:
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    # A dot hides a file or all that a folder holds, such as .git or ._ files.
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink():
                        _check_link(entry.path, root)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file():
                        files.append(Path(entry.path))
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    return sorted(files)


def _check_link(link: str, root: str) -> None:
    """Raise DataError for a link out of the folder: it may come from someone else, as archives do."""
    target = os.path.realpath(link)
    if os.path.commonpath([root, target]) != root:
        raise DataError(
            f"{link}: is a link to {target}, outside the folder; put the files themselves there "
            "(cp -rL copies what links point to)"
        )


def _entries(path: Path, names: list[str]) -> Iterator[Entry]:
    """Yield every image, in the archive's order or sorted."""
    if not is_archive(path):
        yield from ((name, path / name) for name in sorted(names))
        return
    wanted = set(names)
    yield from members(path, lambda name: name in wanted, _MAX_BYTES)


def _notes(resize: Resize, num_lossy: int, num_images: int, num_other_files: int) -> list[str]:
    """Return the facts about the images that must stand beside every number.

    Args:
      resize: crop and size of each image.
      num_lossy: files that were compressed with loss.
      num_images: files in all.
      num_other_files: files that are no images.
    """
    notes = [resize.describe()]
    if num_lossy:
        notes.append(
            f"{num_lossy} of {num_images} files were compressed with loss (JPEG, WebP): "
            "the model learns their artefacts too"
        )
    if num_other_files:
        notes.append(f"{num_other_files} files that are no images were passed over")
    return notes
