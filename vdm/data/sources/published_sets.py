"""The image sets that likelihood papers report on, by name.

A name means one set in one version: TFDS's name and version, the checksums that TFDS registers for
the archives, the sizes of the splits, and, where it could be checked, the hash of the pixels. The
two down-sampled ImageNets have different names, because they are different images.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from vdm.data.base import RawDataset
from vdm.data.sources import cifar, idx, mosaics


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
