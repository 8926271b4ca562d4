"""Image sets through TensorFlow Datasets, read once; the only file here that imports it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdm.data.base import Material, ProgressFn, Recipe
from vdm.data.cache.spill import Spill
from vdm.data.reading.archives import check_file, describe
from vdm.data.reading.images import Resize
from vdm.data.reading.split_names import match_splits
from vdm.errors import ConfigError, DataError

FOLDER = "tfds"
"""Where TFDS keeps archives and records: below the cache, unless $TFDS_DATA_DIR says where."""
_DECODED_LEVELS = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65_536}


def recipe(
    source_dir: str | None = None,
    builder: str = "",
    crop: int = 0,
    size: int = 0,
    filter: str = "lanczos",
) -> Recipe:
    """Any image builder of TFDS, by its name there, with config and version where wanted.

    Args:
      source_dir: a folder with archives that are downloaded already, by their official names.
      builder: such as "omniglot", "downsampled_imagenet/64x64" or "mnist:3.0.1".
      crop, size, filter: see `vdm.data.reading.images.Resize`.

    Raises:
      ConfigError: no name, or an unsuitable option.
    """
    if not builder:
        raise ConfigError("data.tfds.builder='': give the name of a builder of TFDS")
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
) -> Material:
    """Downloads and prepares a builder as array_record, and decodes its images.

    Args:
      name: of the builder.
      splits: which; None = those that are called train, test, validation or the like.
      source_dir: a folder with archives that are downloaded already.
      resize: what is done to each image.
      scratch: a folder for images that may not fit into memory, inside the cache's catalogue.
      progress: is told how many images are decoded.

    Raises:
      DataError: no such builder, a failed download, a wrong checksum, unsuitable images.
    """
    library = _library()
    builder = _builder(library, name, _folder(scratch))
    if not _is_prepared(builder):
        _check_downloads(library, builder, _folder(scratch))
    _download(library, builder, name, source_dir)
    image, label = _features(library, builder, name)
    sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
    wanted, left_out = _wanted(name, sizes, splits)
    total, done = sum(sizes[s] for s in wanted.values()), 0
    images, labels = {}, {}
    for split, published in wanted.items():
        spill, found = Spill(scratch / f"{split}.raw"), np.zeros(sizes[published], np.int64)
        for number, example in enumerate(_examples(builder, published)):
            codes = _codes(example[image], name)
            spill.append(resize(codes, f"tfds:{name} {published} image {number}"))
            found[number] = example[label] if label else 0
            done += 1
            progress("decoding", done, total)
        images[split] = spill.finish()
        if label:
            labels[split] = found
    levels = {_DECODED_LEVELS[array.dtype] for array in images.values()}
    notes = tuple(filter(None, [_describe(left_out, sizes), resize.describe()]))
    source = _source(library, builder)
    return Material(images, max(levels), labels, notes=notes, source=source)


def _wanted(
    name: str, sizes: Mapping[str, int], splits: Sequence[str] | None
) -> tuple[dict[str, str], list[str]]:
    """({split: its name in the builder}, names that are left out)."""
    if splits is not None:
        return {split: split for split in splits}, []
    return match_splits(sizes, f"tfds:{name}")


def _describe(left_out: Sequence[str], sizes: Mapping[str, int]) -> str:
    listed = ", ".join(f"{sizes[name]} in {name}" for name in left_out)
    return f"images of no split are left out: {listed}" if listed else ""


def _library() -> Any:
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
    cache = scratch.parent.parent
    return Path(os.environ.get("TFDS_DATA_DIR") or cache / FOLDER).expanduser()


def _builder(library: Any, name: str, folder: Path) -> Any:
    try:
        return library.builder(name, data_dir=str(folder), file_format="array_record")
    # TFDS has dozens of exceptions of its own.
    except Exception as error:
        raise DataError(f"tfds:{name}: no such builder ({describe(error)[:300]})") from None


def _is_prepared(builder: Any) -> bool:
    """Whether TFDS has records of it already, from archives that it no longer needs."""
    return Path(builder.data_dir).is_dir()


def _download(library: Any, builder: Any, name: str, source_dir: str | None) -> None:
    config = library.download.DownloadConfig(
        try_download_gcs=False,
        manual_dir=str(Path(source_dir).expanduser()) if source_dir else None,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        hint = "" if source_dir else "; archives fetched by hand serve too: source_dir=FOLDER"
        raise DataError(f"tfds:{name}: {describe(error)[:600]}{hint}") from error


def _url_infos(library: Any, builder: Any) -> dict[str, Any]:
    """What TFDS registers of each archive: {url: size, checksum, filename}."""
    if builder.url_infos is not None:
        return builder.url_infos
    # A builder opened from records that were prepared before has lost them.
    return library.builder_cls(builder.name).url_infos or {}


def _check_downloads(library: Any, builder: Any, folder: Path) -> None:
    """Hashes archives that are there already: TFDS takes those by their names alone."""
    name_of = library.core.download.resource.get_dl_fname
    for url, info in _url_infos(library, builder).items():
        for place in (folder / "downloads" / builder.name, folder / "downloads"):
            path = place / name_of(url, info.checksum)
            if path.is_file():
                check_file(path, info.filename or url, info.checksum)


def _features(library: Any, builder: Any, name: str) -> tuple[str, str | None]:
    """Names of the image and, if there is one, of the class."""
    features = builder.info.features
    kinds = library.features
    images = [n for n, f in features.items() if isinstance(f, kinds.Image)]
    if len(images) != 1:
        raise DataError(f"tfds:{name}: has {len(images)} images per example; one is needed")
    labels = [n for n, f in features.items() if isinstance(f, kinds.ClassLabel)]
    return images[0], "label" if "label" in labels else next(iter(labels), None)


def _examples(builder: Any, split: str):
    source = builder.as_data_source(split=split)
    return (source[number] for number in range(len(source)))


def _codes(image: Any, name: str) -> np.ndarray:
    codes = np.asarray(image)
    if codes.dtype not in _DECODED_LEVELS or codes.ndim != 3:
        raise DataError(f"tfds:{name}: images are {codes.dtype} {codes.shape}; integers are needed")
    if codes.shape[-1] not in (1, 3):
        raise DataError(f"tfds:{name}: images have {codes.shape[-1]} channels; 1 or 3 are needed")
    return codes


def _source(library: Any, builder: Any) -> dict[str, Any]:
    infos = _url_infos(library, builder)
    archives = {info.filename or url: info.checksum for url, info in infos.items()}
    return {
        "builder": builder.info.full_name,
        "tfds_version": library.__version__,
        "archives_sha256": archives,
    }
