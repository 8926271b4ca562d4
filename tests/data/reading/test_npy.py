"""Arrays in .npy and .npz files: NumPy's own files come back, bombs and lies are refused unread."""

import io
import re
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from vdm.data.reading.npy import MAX_UNPACKED_BYTES, map_npy, read_npz
from vdm.data.sources.arrays import source
from vdm.errors import DataError

ARRAYS = {
    "codes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6, dtype=">u2").reshape(2, 3)),
    "scalar": np.float32(3.5),
    "empty": np.zeros((0, 4), np.int32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_a_npz_come_back(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    arrays = read_npz(tmp_path / "a.npz", lambda names: None)
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("name", ARRAYS)
def test_the_array_of_a_npy_comes_back(tmp_path, name, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, np.asanyarray(ARRAYS[name]), version)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), ARRAYS[name])


def test_only_compressed_arrays_are_unpacked_into_memory(tmp_path):
    pixels = np.zeros((1000, 100, 100), np.uint8)  # 10 MB
    np.savez(tmp_path / "stored.npz", pixels=pixels)
    np.savez_compressed(tmp_path / "packed.npz", pixels=pixels)
    for name, most in (("stored", 5e6), ("packed", 15e6)):
        tracemalloc.start()
        array = read_npz(tmp_path / f"{name}.npz", lambda names: None)["pixels"]
        assert tracemalloc.get_traced_memory()[1] < most
        tracemalloc.stop()
        assert array.sum() == 0


def header(shape, dtype="|u1", version=(1, 0), padding=0) -> bytes:
    """The header of a .npy, as its specification describes it."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * padding + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


def npz(content: bytes, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A .npz whose train is `content` and whose test is an honest small array."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("train.npy", content)
        archive.writestr("test.npy", header((1, 2, 2, 1)) + bytes(4))
    return file.getvalue()


def bomb(num_bytes: int) -> bytes:
    """A .npz that unpacks to `num_bytes` zeros, built without compressing all of them."""
    content = header((num_bytes // 4, 2, 2, 1))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**22)) + packer.flush(zlib.Z_FULL_FLUSH)
    stream += block * (num_bytes // 2**22) + packer.flush()
    honest = npz(header((1, 2, 2, 1)) + bytes(4), zipfile.ZIP_STORED)
    return _with_stream(honest, stream, len(content) + num_bytes)


def _with_stream(honest: bytes, stream: bytes, size: int) -> bytes:
    """The zip with its first member replaced by a deflated stream; sizes as given, no checksum."""
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        first, second = archive.infolist()
        rest = honest[second.header_offset : archive.start_dir]
        directory = bytearray(honest[archive.start_dir :])
    local = bytearray(honest[: 30 + len(first.filename)])
    struct.pack_into("<H", local, 8, zipfile.ZIP_DEFLATED)
    struct.pack_into("<III", local, 14, 0, len(stream), size)
    struct.pack_into("<H", directory, 10, zipfile.ZIP_DEFLATED)
    struct.pack_into("<III", directory, 16, 0, len(stream), size)
    at = directory.index(b"PK\x01\x02", 4)
    struct.pack_into("<I", directory, at + 42, len(local) + len(stream))
    struct.pack_into(
        "<I", directory, directory.rindex(b"PK\x05\x06") + 16, len(local + stream + rest)
    )
    return bytes(local + stream + rest + directory)


IMAGES = header((5, 2, 2, 1)) + bytes(20)
HOSTILE = {
    "a bomb of 1 GiB": (bomb(2**30), f"more than the {MAX_UNPACKED_BYTES}"),
    "a header of more than the member": (npz(header((2**40, 2, 2, 1)) + bytes(20)), "declares"),
    "a header of less than the member": (npz(header((4, 2, 2, 1)) + bytes(20)), "declares"),
    "a shape that overflows": (npz(header((2**62, 2, 2, 1)) + bytes(20)), "declares"),
    "a negative shape": (npz(header((-5, -2, 2, 1)) + bytes(20)), "impossible"),
    "a header of 100 MB": (npz(header((5, 2, 2, 1), padding=10**8, version=(2, 0))), "header of"),
    "objects": (npz(header((5, 2, 2, 1), "|O") + bytes(160)), "objects"),
    "structs of objects": (npz(header((5, 2, 2, 1), [("a", "|O")]) + bytes(160)), "objects"),
    "a later version": (npz(IMAGES.replace(b"\x01\x00", b"\x09\x00", 1)), "version"),
    "a member of another name": (npz(IMAGES).replace(b"test.npy", b"train.np"), "is not an array"),
    "a stored member beyond the file": (npz(IMAGES, zipfile.ZIP_STORED)[:-1], "zip"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_bombs_and_lies_are_refused_by_declared_sizes(tmp_path, kind):
    """A reader that believed them would take up to 2 GB."""
    content, reason = HOSTILE[kind]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    del content
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}: cannot be read.*{reason}"):
        source(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
