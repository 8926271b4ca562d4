"""A folder, tar or zip of images: PNG, WebP, TIFF, BMP, JPEG; grey or RGB of 8 bits, grey of 16 or 1.

Folders train/, validation/ and test/ in it are those splits; without them all images are one pool that
is split by hash. Further folders are classes. Hidden files are passed over, files that are no images
are counted in the notes.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vdm.data.archives import is_archive, members
from vdm.data.base import Material, ProgressFn, Recipe, fingerprint_files
from vdm.data.images import SUFFIXES, Resize, decode
from vdm.data.spill import Spill
from vdm.errors import ConfigError, DataError

MAX_PIXELS = 2**26
_MAX_BYTES = 2**29
_SPLITS = ("train", "validation", "test")

Entry = tuple[str, Path | bytes]
"""(name with forward slashes, below the folder; path or content)."""


def recipe(
    source_dir: str | None = None,
    path: str = "",
    crop: int = 0,
    size: int = 0,
    filter: str = "lanczos",
) -> Recipe:
    """Images below a folder, or in a tar or zip.

    Args:
      source_dir: unused: the folder is `path`.
      path: the folder or archive.
      crop, size, filter: see `vdm.data.images.Resize`.

    Raises:
      ConfigError: an unsuitable option.
      DataError: there is no such folder.
    """
    del source_dir
    found, resize = check_path(path), Resize(crop, size, filter)
    name = f"folder:{found.resolve().name}"
    request = {"folder": fingerprint(found), "resize": dataclasses.asdict(resize)}
    return Recipe(
        name=name,
        request=request,
        read=lambda scratch, progress: read(found, resize, scratch, progress),
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


def read(path: Path, resize: Resize, scratch: Path, progress: ProgressFn) -> Material:
    """The images below `path`, sorted by name, with classes where there are sub-folders.

    Raises:
      DataError: no images, an unreadable one, or images of different shapes or levels.
    """
    names, others = _names(path)
    if not names:
        raise DataError(f"{path}: holds no images ({', '.join(SUFFIXES)} are read)")
    layout = _Layout(names)
    spills = {split: Spill(scratch / f"{split}.raw") for split in layout.splits}
    positions: dict[str, list[int]] = {split: [] for split in layout.splits}
    kind, num_lossy = _Kind(), 0
    for done, (name, content) in enumerate(_entries(path, names), start=1):
        image, facts = decode(content, f"{path}/{name}", MAX_PIXELS)
        image = resize(image, f"{path}/{name}")
        kind.check(name, image, facts["num_levels"], path)
        split, position = layout.place(name)
        spills[split].append(image)
        positions[split].append(position)
        num_lossy += facts["lossy"]
        progress("reading images", done, len(names))
    index = {split: np.array(found) for split, found in positions.items()}
    notes = _notes(resize, num_lossy, len(names), others)
    return Material(
        images={split: spill.finish() for split, spill in spills.items()},
        num_levels=kind.num_levels,
        labels={split: layout.labels(split)[index[split]] for split in index if layout.classes},
        index=index,
        notes=tuple(filter(None, notes)),
        source={"format": "images", "classes": layout.classes},
    )


class _Layout:
    """Which split and class each file belongs to, from its name."""

    def __init__(self, names: list[str]):
        heads = {PurePosixPath(name).parts[0] for name in names if "/" in name}
        self._split_folders = {"train", "test"} <= heads <= set(_SPLITS)
        self.splits = [s for s in _SPLITS if s in heads] if self._split_folders else ["train"]
        self._names: dict[str, list[str]] = {split: [] for split in self.splits}
        for name in sorted(names):
            self._names[self._split(name)].append(name)
        self._position = {name: i for found in self._names.values() for i, name in enumerate(found)}
        self.classes = sorted({self._class(name) for name in names} - {""})

    def place(self, name: str) -> tuple[str, int]:
        return self._split(name), self._position[name]

    def labels(self, split: str) -> np.ndarray:
        """Number of the class of each image; -1 for images outside of any."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(self._class(name), -1) for name in self._names[split]])

    def _split(self, name: str) -> str:
        if not self._split_folders:
            return "train"
        split = PurePosixPath(name).parts[0]
        if split not in _SPLITS:
            raise DataError(f"{name}: lies beside the folders {', '.join(self.splits)}")
        return split

    def _class(self, name: str) -> str:
        parts = PurePosixPath(name).parts[1 if self._split_folders else 0 : -1]
        return "/".join(parts)


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
                "alike: crop=N and size=N make them so (data.folder.crop, data.folder.size)"
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
