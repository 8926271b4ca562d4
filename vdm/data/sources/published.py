"""The image sets that likelihood papers report on, by name.

A name means one set in one version: TFDS's name and version, the checksums that TFDS registers for the
archives, the sizes of the splits, and, where it could be checked, the hash of the pixels. The two
down-sampled ImageNets have different names, because they are different images.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdm.data.base import Material, ProgressFn, Recipe, fingerprint_files
from vdm.data.reading.images import Resize
from vdm.data.sources import cifar, idx, mosaics
from vdm.errors import ConfigError, DataError

FILTER = "lanczos"


@dataclasses.dataclass(frozen=True)
class Reader:
    """A form in which a set may lie on this machine.

    Attributes:
      files: what to look for, in words.
      find: folder -> the files, or [].
      read: the files -> material.
    """

    files: str
    find: Callable[[Path], list[Path]]
    read: Callable[[list[Path]], Material]


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """What identifies a set.

    Attributes:
      builder: name and version in TFDS.
      split_sizes: of the splits that are used.
      test_split: the one that papers evaluate.
      readers: forms in which it may lie on this machine; TFDS reads every other form of it.
      pixel_sha256: see `vdm.data.cache.canonical.pixel_hash`.
      note: what must stand beside every number.
      resized: whether its images differ in size, or are so large, that a size must be chosen.
    """

    builder: str
    split_sizes: Mapping[str, int]
    test_split: str = "test"
    readers: tuple[Reader, ...] = ()
    pixel_sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    resized: bool = False


def _cifar(layouts: tuple[cifar.Layout, ...]) -> Reader:
    archives = " or ".join(layout.archive for layout in layouts)
    return Reader(
        f"{archives} (or unpacked)",
        functools.partial(cifar.find, layouts=layouts),
        functools.partial(cifar.read, layouts=layouts),
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

_AMBIGUOUS = {
    f"imagenet{dash}{side}": (
        f"two different sets go by this name, about 0.26 bits/dim apart: downsampled_imagenet_{side} "
        f"(old, image-net.org/small, no anti-aliasing) and imagenet_resized_{side} (new, "
        "image-net.org/data/downsample); choose one, and never compare their numbers"
    )
    for side in (32, 64)
    for dash in ("", "_")
}


def refuse_ambiguous(name: str) -> None:
    """ConfigError for a name that several sets go by."""
    if name in _AMBIGUOUS:
        raise ConfigError(f"data.name={name!r}: {_AMBIGUOUS[name]}")


def recipe(name: str, source_dir: str | None = None) -> Recipe:
    """The set `name`, from files on this machine if `source_dir` is given, else through TFDS.

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
    """As `recipe`, for a set whose size must be chosen.

    Raises:
      ConfigError: no size, or an unsuitable option.
    """
    if not size:
        raise ConfigError(
            f"data.{name}.size=0: choose the side of the square images, such as 64 "
            "(and the side of the central square they are cut from, crop=N)"
        )
    found = _recipe(name, source_dir, Resize(crop, size, filter))
    return dataclasses.replace(found, name=f"{name}_{size}")


def _recipe(name: str, source_dir: str | None, resize: Resize) -> Recipe:
    facts = PUBLISHED[name]
    request: dict[str, Any] = {"published": name, "builder": facts.builder}
    if facts.resized:
        request["resize"] = dataclasses.asdict(resize)
    reader, files = _find(name, source_dir)
    through_tfds = Recipe(
        name=name,
        request=request,
        read=functools.partial(_read_tfds, facts, source_dir, resize),
        needs_tfds=True,
        test_split=facts.test_split,
        expected=facts.pixel_sha256,
    )
    if reader is None:
        return through_tfds
    return dataclasses.replace(
        through_tfds,
        request={**request, "files": fingerprint_files(files, files[0].parent)},
        read=lambda scratch, progress: _read_files(name, facts, reader, files),
        needs_tfds=False,
        complete_request=request,
    )


def _find(name: str, source_dir: str | None) -> tuple[Reader | None, list[Path]]:
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
    """What a source_dir may hold of the set, in words; "" where only TFDS knows."""
    return ", or ".join(reader.files for reader in PUBLISHED[name].readers)


def _read_files(name: str, facts: PublishedSet, reader: Reader, files: list[Path]) -> Material:
    material = reader.read(files)
    where = f"{files[0].parent}: {name}"
    for split, size in facts.split_sizes.items():
        missing = len(material.missing.get(split, ()))
        found = len(material.images[split])
        if found + missing != size:
            raise DataError(f"{where}: {split} has {found} images, but the published set {size}")
    source = {**material.source, "builder": facts.builder, "file_names": [f.name for f in files]}
    return dataclasses.replace(material, source=source, notes=_notes(facts, material.notes))


def _read_tfds(
    facts: PublishedSet,
    source_dir: str | None,
    resize: Resize,
    scratch: Path,
    progress: ProgressFn,
) -> Material:
    # Imported here: TensorFlow Datasets is an extra that training never loads.
    from vdm.data.sources import tfds

    material = tfds.read(
        facts.builder, list(facts.split_sizes), source_dir, resize, scratch, progress
    )
    sizes = {split: len(images) for split, images in material.images.items()}
    if sizes != dict(facts.split_sizes):
        raise DataError(
            f"tfds:{facts.builder}: has splits {sizes}, but the published set "
            f"{dict(facts.split_sizes)}"
        )
    return dataclasses.replace(material, notes=_notes(facts, material.notes))


def _notes(facts: PublishedSet, notes: tuple[str, ...]) -> tuple[str, ...]:
    return (*([facts.note] if facts.note else []), *notes)
