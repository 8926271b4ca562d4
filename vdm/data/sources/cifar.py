"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the python and the binary archives, packed or unpacked.

Every file is compared with its published checksum before it is decoded: the archives with those of
the set's page and of TFDS, unpacked python batches with torchvision's MD5, and unpacked binary
batches with MXNet Gluon's SHA-1.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from vdm.data.base import RawDataset
from vdm.data.reading.archives import check_file, members, read_checked
from vdm.data.reading.pickles import load_arrays_pickle
from vdm.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MAX_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class ArchiveFormat:
    """A form in which a set is published: an archive, and the files inside.

    Attributes:
      archive: file name of the archive.
      checksum: (algorithm, digest) of the archive.
      folder: name of the folder inside.
      batches: {file name: digest} of each split, in order.
      algorithm: name of the checksum of these digests, as hashlib knows it.
      labels: name of the labels in a pickled batch; None for the binary form.
      label_bytes: bytes before the pixels of a binary record; the last of them is the label.
    """

    archive: str
    checksum: tuple[str, str]
    folder: str
    batches: Mapping[str, Mapping[str, str]]
    algorithm: str
    labels: str | None = None
    label_bytes: int = 1


CIFAR10 = (
    ArchiveFormat(
        "cifar-10-python.tar.gz",
        ("md5", "c58f30108f718f92721af3b95e74349a"),
        "cifar-10-batches-py",
        {
            "train": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
        },
        "md5",
        labels="labels",
    ),
    ArchiveFormat(
        "cifar-10-binary.tar.gz",
        ("sha256", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        "cifar-10-batches-bin",
        {
            "train": {
                "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
                "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
                "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
                "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
                "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
            },
            "test": {"test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c"},
        },
        "sha1",
    ),
)
CIFAR100 = (
    ArchiveFormat(
        "cifar-100-python.tar.gz",
        ("md5", "eb9058c3a382ffc7106e4002c42a8d85"),
        "cifar-100-python",
        {
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        },
        "md5",
        labels="fine_labels",
    ),
    ArchiveFormat(
        "cifar-100-binary.tar.gz",
        ("sha256", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
        "cifar-100-binary",
        {
            "train": {"train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e"},
            "test": {"test.bin": "8fb6623e830365ff53cf14adec797474f5478006"},
        },
        "sha1",
        label_bytes=2,
    ),
)


def find(folder: Path, formats: tuple[ArchiveFormat, ...]) -> list[Path]:
    """Return the archive in `folder`, or the unpacked files in it or in its subfolder, or []."""
    for archive_format in formats:
        if (folder / archive_format.archive).is_file():
            return [folder / archive_format.archive]
        names = [name for batch in archive_format.batches.values() for name in batch]
        for place in (folder / archive_format.folder, folder):
            if all((place / name).is_file() for name in names):
                return [place / name for name in names]
    return []


def read(files: list[Path], formats: tuple[ArchiveFormat, ...]) -> RawDataset:
    """Return images [N,32,32,3] and labels of both splits, in the published order.

    Raises:
      DataError: an archive or an unpacked file that is not the published one, or a damaged file.
    """
    archive_format = _layout_of(files, formats)

    # An archive is hashed as a whole; unpacked files are hashed one by one, when they are read.
    packed = files[0].name == archive_format.archive
    if packed:
        algorithm, digest = archive_format.checksum
        check_file(files[0], archive_format.archive, digest, algorithm)
    return parse(
        _packed(files[0], archive_format) if packed else _unpacked(files, archive_format),
        archive_format,
    )


def parse(content: Iterator[tuple[str, str, bytes]], archive_format: ArchiveFormat) -> RawDataset:
    """Return the raw data set made of the batches.

    Args:
      content: (file name, where it lies, content) of each batch, in any order.
      archive_format: the published form that they have.

    Raises:
      DataError: a batch is missing, or is none.
    """
    batches = {}
    for name, where, data in content:
        decode = _decode_binary if archive_format.labels is None else _decode_pickle
        batches[name] = decode(data, where, archive_format)

    # The published order, whatever the archive's: an index must mean the same image for everyone.
    images, labels = {}, {}
    for split, names in archive_format.batches.items():
        for name in names:
            if name not in batches:
                raise DataError(
                    f"{archive_format.archive}: lacks {archive_format.folder}/{name}; it is cut"
                )
        images[split] = np.concatenate([batches[name][0] for name in names])
        labels[split] = np.concatenate([batches[name][1] for name in names])

    # Labels also decide the canonical order of equal images.
    index = {split: np.arange(len(array)) for split, array in images.items()}
    return RawDataset(images, 256, labels, index, source={"format": archive_format.folder})


def _layout_of(files: list[Path], formats: tuple[ArchiveFormat, ...]) -> ArchiveFormat:
    """Return the form that a file belongs to, by its name."""
    for archive_format in formats:
        names = {name for batch in archive_format.batches.values() for name in batch}
        if files[0].name == archive_format.archive or files[0].name in names:
            return archive_format
    raise DataError(
        f"{files[0]}: none of {', '.join(archive_format.archive for archive_format in formats)}"
    )


def _packed(path: Path, archive_format: ArchiveFormat) -> Iterator[tuple[str, str, bytes]]:
    """Yield (file name, where it lies, content) of the batches in an archive."""
    wanted = {name for batch in archive_format.batches.values() for name in batch}
    for name, data in members(path, lambda name: PurePosixPath(name).name in wanted, _MAX_BYTES):
        yield PurePosixPath(name).name, f"{path}: member {name!r}", data


def _unpacked(files: list[Path], archive_format: ArchiveFormat) -> Iterator[tuple[str, str, bytes]]:
    """Yield (file name, where it lies, content) of unpacked batches, compared with their digests."""
    digests = {
        name: digest for batch in archive_format.batches.values() for name, digest in batch.items()
    }
    for path in files:
        published, digest = f"{archive_format.folder}/{path.name}", digests[path.name]
        data = read_checked(path, published, digest, archive_format.algorithm, _MAX_BYTES)
        yield path.name, str(path), data


def _decode_pickle(
    data: bytes, where: str, archive_format: ArchiveFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of a pickled batch, {b"data": uint8 [N,3072], b"labels": [N]}."""
    batch = load_arrays_pickle(data, where)
    try:
        pixels = batch[b"data"]
        # Not asarray, which would unfold lists of lists.
        labels = np.fromiter(batch[str(archive_format.labels).encode()], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
            raise ValueError(f"data is {pixels.dtype} {pixels.shape}")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where}: no batch of CIFAR images ({error})") from None
    return _channels_last(pixels), labels


def _decode_binary(
    data: bytes, where: str, archive_format: ArchiveFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of a binary batch: records of one or two labels and 3,072 pixels."""
    size = archive_format.label_bytes + _PIXELS
    if not data or len(data) % size:
        raise DataError(f"{where}: {len(data)} bytes are no records of {size}; it is cut")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, archive_format.label_bytes - 1].astype(np.int64)
    return _channels_last(records[:, archive_format.label_bytes :]), labels


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """Return pixels [N,3072], stored plane by plane, as images [N,32,32,3]."""
    return np.ascontiguousarray(pixels.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1))
