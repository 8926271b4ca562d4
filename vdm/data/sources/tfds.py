"""Image sets through TensorFlow Datasets, read once; the only file here that imports it."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import ProgressFn, RawDataset, Recipe
from vdm.data.cache.array_writer import ArrayWriter
from vdm.data.reading.archives import check_file, describe
from vdm.data.reading.images import Resize
from vdm.data.reading.split_names import match_splits
from vdm.errors import ConfigError, DataError

FOLDER = "tfds"
"""Folder of TFDS's archives and records: below the cache, unless $TFDS_DATA_DIR names another."""
_DECODED_LEVELS = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65_536}
"""Integer codes per channel of the dtypes that TFDS decodes images to."""
_BUILDER = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?", re.ASCII)
"""Names of builders that TFDS itself contains: NAME[/CONFIG][:VERSION]."""


def recipe(
    source_dir: str | None = None,
    builder: str = "",
    crop: int = 0,
    size: int = 0,
    filter: str = "lanczos",
) -> Recipe:
    """Return the recipe of any image builder of TFDS, by its name there.

    Args:
      source_dir: a folder with archives that are downloaded already, by their official names.
      builder: a name with config and version where wanted, such as "omniglot",
        "downsampled_imagenet/64x64" or "mnist:3.0.1".
      crop, size, filter: see `vdm.data.reading.images.Resize`.

    Raises:
      ConfigError: no name, one outside TFDS, or an unsuitable option.
    """
    if not builder:
        raise ConfigError("data.tfds.builder='': give the name of a builder of TFDS")
    # A namespace, as in "someone:cats", makes TFDS fetch a program and run it.
    if not _BUILDER.fullmatch(builder):
        raise ConfigError(
            f"data.tfds.builder={builder!r}: only builders that TFDS contains are used; write "
            "NAME, NAME/CONFIG or NAME:VERSION, such as mnist:3.0.1"
        )
    resize = Resize(crop, size, filter)
    request = {"tfds": builder, "resize": [resize.crop, resize.size, resize.filter]}
    return Recipe(
        name=f"tfds:{builder}",
        request=request,
        read=lambda scratch, progress: read(builder, None, source_dir, resize, scratch, progress),
        needs_tfds=True,
    )


def read(
    name: str,
    splits: Sequence[str] | None,
    source_dir: str | None,
    resize: Resize,
    scratch: Path,
    progress: ProgressFn,
) -> RawDataset:
    """Download and prepare a builder as array_record, and decode its images.

    Args:
      name: name of the builder.
      splits: names of the splits to read; None for those called train, test, validation or the
        like.
      source_dir: a folder with archives that are downloaded already.
      resize: crop and size of each image.
      scratch: a folder for images that may not fit into memory, inside the cache's catalogue.
      progress: called with the number of images decoded.

    Raises:
      DataError: no such builder, a failed download, a wrong checksum, unsuitable images.
    """

    # Records that TFDS prepared before are trusted; archives of its download folder are hashed
    # first, because TFDS takes them by their names.
    library = _library()
    builder = _builder(library, name, _folder(scratch))
    if not _is_prepared(builder):
        _check_downloads(library, builder, _folder(scratch))
    _download(library, builder, name, source_dir)
    image, label = _features(library, builder, name)

    # Every split goes to a file of its own, image by image: ImageNet at 64 x 64 needs 16 GB.
    sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
    wanted, left_out = _wanted(name, sizes, splits)
    total, done = sum(sizes[s] for s in wanted.values()), 0
    images, labels = {}, {}
    for split, published in wanted.items():
        writer = ArrayWriter(scratch / f"{split}.raw")
        classes = np.zeros(sizes[published], np.int64)
        for number, example in enumerate(_examples(builder, published)):
            codes = _codes(example[image], name)
            writer.append(resize(codes, f"tfds:{name} {published} image {number}"))
            classes[number] = example[label] if label else 0
            done += 1
            progress("decoding", done, total)
        images[split] = writer.finish()
        if label:
            labels[split] = classes

    # The dtype tells the number of levels; all splits of a builder have one.
    levels = {_DECODED_LEVELS[array.dtype] for array in images.values()}
    notes = tuple(filter(None, [_describe(left_out, sizes), resize.describe()]))
    source = _source(library, builder)
    return RawDataset(images, max(levels), labels, notes=notes, source=source)


def _wanted(
    name: str, sizes: Mapping[str, int], splits: Sequence[str] | None
) -> tuple[dict[str, str], list[str]]:
    """Return ({split: its name in the builder}, names of the splits that are left out)."""
    if splits is not None:
        return {split: split for split in splits}, []
    return match_splits(sizes, f"tfds:{name}")


def _describe(left_out: Sequence[str], sizes: Mapping[str, int]) -> str:
    """Return the note on images of splits that are left out."""
    listed = ", ".join(f"{sizes[name]} in {name}" for name in left_out)
    return f"images of no split are left out: {listed}" if listed else ""


def _library() -> Any:
    """Return the module tensorflow_datasets, imported without a GPU."""
    # TensorFlow would otherwise take all memory of a GPU that it has no use for.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"TensorFlow Datasets is not installed ({error}); pip install -e '.[data]'"
        ) from None
    return tensorflow_datasets


def _folder(scratch: Path) -> Path:
    """Return the folder of TFDS, from a scratch folder in <cache>/catalogue."""
    cache = scratch.parent.parent
    return Path(os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or cache / FOLDER))


def _builder(library: Any, name: str, folder: Path) -> Any:
    """Return a builder, or a DataError if TFDS has none of that name."""
    try:
        return library.builder(name, data_dir=str(folder), file_format="array_record")
    # TFDS has dozens of exceptions of its own.
    except Exception as error:
        raise DataError(f"tfds:{name}: no such builder ({describe(error)[:300]})") from None


def _is_prepared(builder: Any) -> bool:
    """Return whether TFDS has the records already, from archives that it no longer needs."""
    return Path(builder.data_dir).is_dir()


def _download(library: Any, builder: Any, name: str, source_dir: str | None) -> None:
    """Download and prepare a builder, or raise a DataError that says how to do without the network.

    Args:
      library: the module tensorflow_datasets.
      builder: the builder.
      name: its name, for the message.
      source_dir: a folder with archives that are downloaded already, or None.
    """
    config = library.download.DownloadConfig(
        try_download_gcs=False,
        manual_dir=os.path.expanduser(source_dir) if source_dir else None,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        hint = "" if source_dir else "; archives fetched by hand serve too: source_dir=FOLDER"
        raise DataError(f"tfds:{name}: {describe(error)[:600]}{hint}") from error


def _url_infos(library: Any, builder: Any) -> dict[str, Any]:
    """Return what TFDS registers of each archive, {url: size, checksum, filename}."""
    if builder.url_infos is not None:
        return builder.url_infos
    # A builder opened from records that were prepared before has lost them.
    return library.builder_cls(builder.name).url_infos or {}


def _check_downloads(library: Any, builder: Any, folder: Path) -> None:
    """Hash archives that are there already: TFDS takes those by their names alone."""
    name_of = library.core.download.resource.get_dl_fname
    for url, info in _url_infos(library, builder).items():
        for place in (folder / "downloads" / builder.name, folder / "downloads"):
            path = place / name_of(url, info.checksum)
            if path.is_file():
                check_file(path, info.filename or url, info.checksum)


def _features(library: Any, builder: Any, name: str) -> tuple[str, str | None]:
    """Return the names of the image and, if there is one, of the class."""
    features = builder.info.features
    kinds = library.features
    images = [n for n, f in features.items() if isinstance(f, kinds.Image)]
    if len(images) != 1:
        raise DataError(f"tfds:{name}: has {len(images)} images per example; one is needed")
    labels = [n for n, f in features.items() if isinstance(f, kinds.ClassLabel)]
    return images[0], "label" if "label" in labels else next(iter(labels), None)


def _examples(builder: Any, split: str):
    """Return the examples of a split, one at a time."""
    source = builder.as_data_source(split=split)
    return (source[number] for number in range(len(source)))


def _codes(image: Any, name: str) -> np.ndarray:
    """Return an image's codes [H,W,C], or refuse what is no integer image of 1 or 3 channels."""
    codes = np.asarray(image)
    if codes.dtype not in _DECODED_LEVELS or codes.ndim != 3:
        raise DataError(f"tfds:{name}: images are {codes.dtype} {codes.shape}; integers are needed")
    if codes.shape[-1] not in (1, 3):
        raise DataError(f"tfds:{name}: images have {codes.shape[-1]} channels; 1 or 3 are needed")
    return codes


def _source(library: Any, builder: Any) -> dict[str, Any]:
    """Return the provenance for the manifest: builder, versions and archives."""
    infos = _url_infos(library, builder)
    archives = {info.filename or url: info.checksum for url, info in infos.items()}
    return {
        "builder": builder.info.full_name,
        "tfds_version": library.__version__,
        "archives_sha256": archives,
    }
