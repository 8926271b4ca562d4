"""Recipes of the published sets, from files on this machine or through TFDS.

`vdm.data.sources.published_sets` lists the sets and the facts that identify them.
"""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

from vdm.data.base import ProgressFn, RawDataset, Recipe, fingerprint_files
from vdm.data.reading.images import Resize
from vdm.data.sources.published_sets import PUBLISHED, PublishedSet, Reader
from vdm.errors import ConfigError, DataError

FILTER = "lanczos"
"""Filter by which CelebA is resized unless another is chosen."""

_AMBIGUOUS = {
    f"imagenet{dash}{side}": (
        f"two different sets go by this name, about 0.26 bits/dim apart: downsampled_imagenet_{side} "
        f"(old, image-net.org/small, no anti-aliasing) and imagenet_resized_{side} (new, "
        "image-net.org/data/downsample); choose one, and never compare their numbers"
    )
    for side in (32, 64)
    for dash in ("", "_")
}
"""Names that several sets go by, with what to choose between."""


def refuse_ambiguous(name: str) -> None:
    """Raise ConfigError for a name that several sets go by."""
    if name in _AMBIGUOUS:
        raise ConfigError(f"data.name={name!r}: {_AMBIGUOUS[name]}")


def recipe(name: str, source_dir: str | None = None) -> Recipe:
    """Return the recipe of `name`, from files in `source_dir` if it holds them, else through TFDS.

    Raises:
      DataError: source_dir does not exist.
    """
    return _recipe(name, source_dir, Resize())


def resized_recipe(
    name: str,
    source_dir: str | None = None,
    crop: int = 0,
    size: int = 0,
    filter: str = FILTER,
) -> Recipe:
    """Return the recipe of a set whose size must be chosen.

    Args:
      name: a key of PUBLISHED.
      source_dir: a folder with the set's files, or None.
      crop, size, filter: see `vdm.data.reading.images.Resize`.

    Raises:
      ConfigError: no size, or an unsuitable option.
      DataError: source_dir does not exist.
    """
    if not size:
        raise ConfigError(
            f"data.{name}.size=0: choose the side of the square images, such as 64 "
            "(and the side of the central square they are cut from, crop=N)"
        )
    set_recipe = _recipe(name, source_dir, Resize(crop, size, filter))
    return dataclasses.replace(set_recipe, name=f"{name}_{size}")


def _recipe(name: str, source_dir: str | None, resize: Resize) -> Recipe:
    """Return the recipe through TFDS, or through a reader where one finds its files."""
    published_set = PUBLISHED[name]
    request: dict[str, Any] = {"published": name, "builder": published_set.builder}
    if published_set.resized:
        request["resize"] = dataclasses.asdict(resize)
    reader, files = _find(name, source_dir)
    through_tfds = Recipe(
        name=name,
        request=request,
        read=functools.partial(_read_tfds, published_set, source_dir, resize),
        needs_tfds=True,
        test_split=published_set.test_split,
        expected=published_set.pixel_sha256,
    )

    # The request names the files, so that other files are prepared anew; a complete copy is the
    # set itself, and also answers the request without files.
    if reader is None:
        return through_tfds
    return dataclasses.replace(
        through_tfds,
        request={**request, "files": fingerprint_files(files, files[0].parent)},
        read=lambda scratch, progress: _read_files(name, published_set, reader, files),
        needs_tfds=False,
        complete_request=request,
    )


def _find(name: str, source_dir: str | None) -> tuple[Reader | None, list[Path]]:
    """Return the first reader that finds its files in `source_dir`, and these files."""
    if not source_dir:
        return None, []
    folder = Path(os.path.expanduser(source_dir))  # pathlib's own raises without a home
    if not folder.is_dir():
        raise DataError(f"data.source_dir={source_dir}: no such folder")
    for reader in PUBLISHED[name].readers:
        if files := reader.find(folder):
            return reader, files
    return None, []


def local_forms(name: str) -> str:
    """Return in words what a source_dir may hold of the set; "" where no reader knows it."""
    if name not in PUBLISHED:
        return ""
    return ", or ".join(reader.files for reader in PUBLISHED[name].readers)


def _read_files(
    name: str, published_set: PublishedSet, reader: Reader, files: list[Path]
) -> RawDataset:
    """Return the raw data set that a reader finds, after its split sizes are checked.

    Args:
      name: a key of PUBLISHED.
      published_set: the set under that key.
      reader: reader of the form that was found.
      files: the files that it found.
    """
    raw = reader.read(files)
    where = f"{files[0].parent}: {name}"

    # A copy may lack images if it says which: those present and those missing make up the whole.
    for split, size in published_set.split_sizes.items():
        missing = len(raw.missing.get(split, ()))
        num_images = len(raw.images[split])
        if num_images + missing != size:
            raise DataError(
                f"{where}: {split} has {num_images} images, but the published set {size}"
            )
    source = {**raw.source, "builder": published_set.builder, "file_names": [f.name for f in files]}
    return dataclasses.replace(raw, source=source, notes=_notes(published_set, raw.notes))


def _read_tfds(
    published_set: PublishedSet,
    source_dir: str | None,
    resize: Resize,
    scratch: Path,
    progress: ProgressFn,
) -> RawDataset:
    """Return the raw data set from TFDS, after its split sizes are checked.

    Args:
      published_set: the set, an entry of PUBLISHED.
      source_dir: a folder with archives that are downloaded already, or None.
      resize: crop and size of each image.
      scratch: a folder for images that may not fit into memory.
      progress: called with the number of images decoded.
    """
    # Imported here: TensorFlow Datasets is an extra that training never loads.
    from vdm.data.sources import tfds

    raw = tfds.read(
        published_set.builder,
        list(published_set.split_sizes),
        source_dir,
        resize,
        scratch,
        progress,
    )

    # A later version of a builder under the same name would be another set.
    sizes = {split: len(images) for split, images in raw.images.items()}
    if sizes != dict(published_set.split_sizes):
        raise DataError(
            f"tfds:{published_set.builder}: has splits {sizes}, but the published set "
            f"{dict(published_set.split_sizes)}"
        )
    return dataclasses.replace(raw, notes=_notes(published_set, raw.notes))


def _notes(published_set: PublishedSet, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the set's own note before those of its reader."""
    return (*([published_set.note] if published_set.note else []), *notes)
