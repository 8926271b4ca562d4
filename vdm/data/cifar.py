"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the python and the binary archives, packed or unpacked."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from vdm.data.archives import check_file, load_arrays_pickle, members
from vdm.data.base import Material
from vdm.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_MAX_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Layout:
    """One published form of a set.

    Attributes:
      archive: file name of the archive.
      checksum: (algorithm, digest) of the archive.
      folder: the folder inside.
      batches: names of the files of each split, in order.
      labels: name of the labels in a pickled batch; None for the binary form.
      label_bytes: bytes before the pixels of a binary record; the last of them is the label.
    """

    archive: str
    checksum: tuple[str, str]
    folder: str
    batches: Mapping[str, tuple[str, ...]]
    labels: str | None = None
    label_bytes: int = 1


CIFAR10 = (
    Layout(
        "cifar-10-python.tar.gz",
        ("md5", "c58f30108f718f92721af3b95e74349a"),
        "cifar-10-batches-py",
        {
            "train": tuple(f"data_batch_{n}" for n in range(1, 6)),
            "test": ("test_batch",),
        },
        labels="labels",
    ),
    Layout(
        "cifar-10-binary.tar.gz",
        ("sha256", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        "cifar-10-batches-bin",
        {
            "train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
            "test": ("test_batch.bin",),
        },
    ),
)
CIFAR100 = (
    Layout(
        "cifar-100-python.tar.gz",
        ("md5", "eb9058c3a382ffc7106e4002c42a8d85"),
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        labels="fine_labels",
    ),
    Layout(
        "cifar-100-binary.tar.gz",
        ("sha256", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        label_bytes=2,
    ),
)


def find(folder: Path, layouts: tuple[Layout, ...]) -> list[Path]:
    """The archive in `folder`, or the unpacked files in it or in its subfolder, or []."""
    for layout in layouts:
        if (folder / layout.archive).is_file():
            return [folder / layout.archive]
        names = [name for batch in layout.batches.values() for name in batch]
        for place in (folder / layout.folder, folder):
            if all((place / name).is_file() for name in names):
                return [place / name for name in names]
    return []


def read(files: list[Path], layouts: tuple[Layout, ...]) -> Material:
    """Images [N,32,32,3] and labels of both splits, in the published order.

    Raises:
      DataError: an archive that is not the published one, or a damaged file.
    """
    layout = _layout_of(files, layouts)
    packed = files[0].name == layout.archive
    if packed:
        algorithm, digest = layout.checksum
        check_file(files[0], layout.archive, digest, algorithm)
    return parse(_packed(files[0], layout) if packed else _unpacked(files), layout)


def parse(content: Iterator[tuple[str, str, bytes]], layout: Layout) -> Material:
    """Material from (file name, where it lies, content) of the batches, in any order."""
    batches = {}
    for name, where, data in content:
        decode = _decode_binary if layout.labels is None else _decode_pickle
        batches[name] = decode(data, where, layout)
    images, labels = {}, {}
    for split, names in layout.batches.items():
        for name in names:
            if name not in batches:
                raise DataError(f"{layout.archive}: lacks {layout.folder}/{name}; it is cut")
        images[split] = np.concatenate([batches[name][0] for name in names])
        labels[split] = np.concatenate([batches[name][1] for name in names])
    index = {split: np.arange(len(array)) for split, array in images.items()}
    return Material(images, 256, labels, index, source={"format": layout.folder})


def _layout_of(files: list[Path], layouts: tuple[Layout, ...]) -> Layout:
    for layout in layouts:
        names = {name for batch in layout.batches.values() for name in batch}
        if files[0].name == layout.archive or files[0].name in names:
            return layout
    raise DataError(f"{files[0]}: none of {', '.join(layout.archive for layout in layouts)}")


def _packed(path: Path, layout: Layout) -> Iterator[tuple[str, str, bytes]]:
    wanted = {name for batch in layout.batches.values() for name in batch}
    for name, data in members(path, lambda name: PurePosixPath(name).name in wanted, _MAX_BYTES):
        yield PurePosixPath(name).name, f"{path}: member {name!r}", data


def _unpacked(files: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    for path in files:
        try:
            yield path.name, str(path), path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _decode_pickle(data: bytes, where: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    batch = load_arrays_pickle(data, where)
    try:
        pixels = np.asarray(batch[b"data"])
        labels = np.asarray(batch[str(layout.labels).encode()], np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
            raise ValueError(f"data is {pixels.dtype} {pixels.shape}")
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{where}: no batch of CIFAR images ({error})") from None
    return _channels_last(pixels), labels


def _decode_binary(data: bytes, where: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    size = layout.label_bytes + _PIXELS
    if not data or len(data) % size:
        raise DataError(f"{where}: {len(data)} bytes are no records of {size}; it is cut")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    return _channels_last(records[:, layout.label_bytes :]), labels


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1))
