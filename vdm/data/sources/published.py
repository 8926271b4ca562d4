"""The image sets that likelihood papers report on, by name.

A name means one set in one version: TFDS's name and version, the checksums that TFDS registers for
the archives, the sizes of the splits, and, where it could be checked, the hash of the pixels. The
two down-sampled ImageNets have different names, because they are different images.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.data.base import ProgressFn, RawDataset, Recipe, fingerprint_files
from vdm.data.reading.images import Resize
from vdm.data.sources import cifar, idx, mosaics
from vdm.errors import ConfigError, DataError

FILTER = "lanczos"
"""Filter by which CelebA is resized unless another is chosen."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of one form in which a set may lie on this machine.

    Attributes:
      files: the files to look for, in words.
      find: folder -> the files, or [].
      read: the files -> the raw data set.
    """

    files: str
    find: Callable[[Path], list[Path]]
    read: Callable[[list[Path]], RawDataset]


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """The facts that identify a published set.

    Attributes:
      builder: name and version in TFDS.
      split_sizes: images in each split that is used.
      test_split: the split that papers evaluate.
      readers: readers of forms in which it may lie on this machine; TFDS reads every other form.
      pixel_sha256: pixel hash per split, see `vdm.data.cache.canonical.pixel_hash`; {} where
        unknown.
      note: a fact that must stand beside every number.
      resized: whether a size must be chosen, because images differ in size or are large.
    """

    builder: str
    split_sizes: Mapping[str, int]
    test_split: str = "test"
    readers: tuple[Reader, ...] = ()
    pixel_sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    resized: bool = False


def _cifar(formats: tuple[cifar.ArchiveFormat, ...]) -> Reader:
    """Return the reader of a CIFAR set in any of its published forms."""
    archives = " or ".join(archive_format.archive for archive_format in formats)
    return Reader(
        f"{archives} (or unpacked)",
        functools.partial(cifar.find, formats=formats),
        functools.partial(cifar.read, formats=formats),
    )


_IDX = Reader("train-images-idx3-ubyte.gz and the three others", idx.find, idx.read)
_MOSAICS = Reader(
    "mosaics train_*.webp, test.webp with labels.npz",
    mosaics.find,
    functools.partial(mosaics.read, shape=(32, 32, 3)),
)
_IMAGENET = "test is the validation split of ImageNet, as in every paper"
_OLD = f"the old down-sampled ImageNet (van den Oord 2016, no anti-aliasing); {_IMAGENET}"
_NEW = f"the new down-sampled ImageNet (Chrabaszcz 2017); {_IMAGENET}"

PUBLISHED = {
    "cifar10": PublishedSet(
        "cifar10:3.0.2",
        {"train": 50_000, "test": 10_000},
        readers=(_cifar(cifar.CIFAR10), _MOSAICS),
    ),
    "cifar100": PublishedSet(
        "cifar100:3.0.2",
        {"train": 50_000, "test": 10_000},
        readers=(_cifar(cifar.CIFAR100),),
    ),
    "mnist": PublishedSet(
        "mnist:3.0.1",
        {"train": 60_000, "test": 10_000},
        readers=(_IDX,),
        pixel_sha256={
            "train": "ac204557f97afa10e4f92a189048da20785c9c917afe4fd7e6c2622d1defcae3",
            "test": "39986ba80f2f3db62c2c77c5e851d57a1ba8b2022593ecb49dceacb42a5d87a0",
        },
    ),
    "fashion_mnist": PublishedSet(
        "fashion_mnist:3.0.1",
        {"train": 60_000, "test": 10_000},
        readers=(_IDX,),
        pixel_sha256={
            "train": "ce86da1684bd40a2e2caa8b2879983130a1c902f0a34094285fa6c536239bd51",
            "test": "6a141860ea42d0a3ac0254a68e282be6d017bffe63c6b3f8496775ce53bc1f28",
        },
    ),
    # The 531,131 images of "extra" belong to no published bits/dim.
    "svhn": PublishedSet("svhn_cropped:3.1.0", {"train": 73_257, "test": 26_032}),
    "downsampled_imagenet_32": PublishedSet(
        "downsampled_imagenet/32x32:2.0.0",
        {"train": 1_281_149, "validation": 49_999},
        test_split="validation",
        note=_OLD,
    ),
    "downsampled_imagenet_64": PublishedSet(
        "downsampled_imagenet/64x64:2.0.0",
        {"train": 1_281_149, "validation": 49_999},
        test_split="validation",
        note=_OLD,
    ),
    "imagenet_resized_32": PublishedSet(
        "imagenet_resized/32x32:0.1.0",
        {"train": 1_281_167, "validation": 50_000},
        test_split="validation",
        note=_NEW,
    ),
    "imagenet_resized_64": PublishedSet(
        "imagenet_resized/64x64:0.1.0",
        {"train": 1_281_167, "validation": 50_000},
        test_split="validation",
        note=_NEW,
    ),
    "celeb_a": PublishedSet(
        "celeb_a:2.1.0",
        {"train": 162_770, "validation": 19_867, "test": 19_962},
        note="the files were compressed with loss (JPEG): the model learns their artefacts too",
        resized=True,
    ),
}
"""Published sets by name."""

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
    folder = Path(source_dir).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.source_dir={source_dir}: no such folder")
    for reader in PUBLISHED[name].readers:
        if files := reader.find(folder):
            return reader, files
    return None, []


def local_forms(name: str) -> str:
    """Return the forms of the set that a source_dir may hold, for messages; "" if only TFDS has it."""
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
