"""MNIST's idx files, against the format's definition and the genuine files."""

import gzip
import struct

import numpy as np
import pytest

from vdm.data.sources import idx
from vdm.errors import DataError


def idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_set(folder, suffix=".gz", dot=False):
    """A small set; returns its arrays."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, num in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (num, 4, 5), dtype=np.uint8)
        labels = rng.integers(0, 10, num, dtype=np.uint8)
        arrays[name] = images, labels
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            stem = f"{name}-{kind}".replace("-idx", ".idx") if dot else f"{name}-{kind}"
            content = idx_bytes(array)
            content = gzip.compress(content) if suffix else content
            (folder / f"{stem}{suffix}").write_bytes(content)
    return arrays


@pytest.mark.parametrize(("suffix", "dot"), [(".gz", False), ("", False), ("", True)])
def test_images_and_labels_come_back(tmp_path, suffix, dot):
    arrays = write_set(tmp_path, suffix, dot)
    material = idx.read(idx.find(tmp_path))
    for split, name in (("train", "train"), ("test", "t10k")):
        np.testing.assert_array_equal(material.images[split][..., 0], arrays[name][0])
        np.testing.assert_array_equal(material.labels[split], arrays[name][1])
        assert material.index[split].tolist() == list(range(len(arrays[name][0])))


def test_a_set_that_is_not_whole_is_not_found(tmp_path):
    write_set(tmp_path)
    assert len(idx.find(tmp_path)) == 4
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert idx.find(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no idx file of bytes with 3 axes"),
        (idx_bytes(np.zeros((2, 3), np.uint8)), "no idx file of bytes with 3 axes"),
        (idx_bytes(np.zeros((2, 3, 4), np.uint8), kind=13), "no idx file of bytes with 3 axes"),
        (idx_bytes(np.zeros((2, 3, 4), np.uint8))[:-1], "23 bytes follow the header instead of 24"),
        (idx_bytes(np.zeros((2, 3, 4), np.uint8)) + b"0", "25 bytes follow .* instead of 24"),
        (gzip.compress(idx_bytes(np.zeros((9, 9, 9), np.uint8)), mtime=0)[:-9], "cut or damaged"),
        (struct.pack(">4B3I", 0, 0, 8, 3, *(2**32 - 1,) * 3), "0 bytes follow the header instead"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}: .*{message}"):
        idx.read_idx(path, 3)


def test_labels_that_do_not_fit_the_images(tmp_path):
    write_set(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros(29, np.uint8))))
    with pytest.raises(DataError, match=r"train-labels.*: 29 labels for 30 images"):
        idx.read(idx.find(tmp_path))
