"""Arrays in .npy and .npz files (NumPy enhancement proposal 1) from unknown sources.

All sizes that a file declares are compared before anything is allocated: the member's in the zip's
directory, and shape x itemsize of the array's header. Pickled objects are never loaded. Arrays
that are stored as they are (np.save, np.savez) are mapped from the file, whatever their size;
compressed ones (np.savez_compressed) are unpacked into memory, up to a limit.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAX_UNPACKED_BYTES = 2**28
"""Most bytes, 268 million, of all compressed arrays of a file together."""
_MAX_HEADER_BYTES = 10_000
"""Longest header of an array; NumPy's own limit, which it checks only once the header is read."""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Lengths of the name and the extra field in a zip member's local header of 30 bytes."""
_BLOCK_BYTES = 2**20


class Header(NamedTuple):
    """The header of an array.

    Attributes:
      shape: its shape.
      order: "C" or "F".
      dtype: its dtype, without objects.
      num_bytes: length of the header itself, magic bytes included.
    """

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    num_bytes: int

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file, header included, that shape and dtype declare."""
        # Python integers: a hostile shape overflows 64 bits.
        return self.num_bytes + math.prod(self.shape) * self.dtype.itemsize


def map_npy(path: Path) -> np.ndarray:
    """Return the array of a .npy file, mapped from disk and read-only.

    Raises:
      ValueError, OSError: no array, one of objects, or another number of bytes than its header says.
    """
    with open(path, "rb") as file:
        header = read_header(file)
    _check_size(header, path.stat().st_size)
    return _map(path, header, header.num_bytes)


def read_npz(path: Path, check_names: Callable[[list[str]], None]) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file by name.

    Args:
      path: the file.
      check_names: called with the names of all arrays before any is read; it may raise.

    Raises:
      ValueError, OSError, zipfile.BadZipFile, ...: damage of any kind, or more than
        MAX_UNPACKED_BYTES of compressed arrays.
    """
    with zipfile.ZipFile(path) as archive:
        members = _by_name(archive)
        check_names(list(members))

        # Directory and headers first, of all members: nothing is allocated for a file that is
        # refused.
        packed = [m for m in members.values() if m.compress_type != zipfile.ZIP_STORED]
        total = sum(member.file_size for member in packed)
        if total > MAX_UNPACKED_BYTES:
            raise ValueError(
                f"its compressed arrays take {total} bytes, more than the {MAX_UNPACKED_BYTES} that "
                "are unpacked into memory; np.savez stores them without compression"
            )
        headers = {name: _member_header(archive, member) for name, member in members.items()}
        return {
            name: (_map_member if member not in packed else _unpack)(
                archive, path, member, headers[name]
            )
            for name, member in members.items()
        }


def read_header(file: BinaryIO) -> Header:
    """Return the header at the start of `file`, and leave the position behind it.

    Raises:
      ValueError: no header, an unknown version, an impossible shape, or an array of objects.
    """
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    if version not in _READERS:
        raise ValueError(f"format version {version[0]}.{version[1]} is not read")
    length, read = _READERS[version]

    # NumPy reads as many bytes as a length of 32 bits says before it judges them.
    start = file.read(length.size)
    (num_bytes,) = length.unpack(start)
    if num_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"an array's header of {num_bytes} bytes")
    shape, fortran, dtype = read(io.BytesIO(start + file.read(num_bytes)))
    if dtype.hasobject:
        raise ValueError("an array of objects")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"an array of the impossible shape {shape}")
    magic = np.lib.format.MAGIC_LEN
    return Header(shape, "F" if fortran else "C", dtype, magic + length.size + num_bytes)


_READERS = {
    (1, 0): (struct.Struct("<H"), np.lib.format.read_array_header_1_0),
    (2, 0): (struct.Struct("<I"), np.lib.format.read_array_header_2_0),
}
"""{version: (its header's length, reader of length and header)}."""


def _by_name(archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    """Return the members by the arrays' names, or refuse two of one name and other files."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            raise ValueError(f"member {name!r} is not an array")
        if name in members:
            raise ValueError(f"two arrays of the name {name!r}")
        members[name] = member
    return members


def _member_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    """Return the header of a member, whose size must be that of the zip's directory."""
    with archive.open(member) as file:
        header = read_header(file)  # type: ignore[arg-type]
    _check_size(header, member.file_size)
    return header


def _check_size(header: Header, num_bytes: int) -> None:
    """Raise ValueError unless a header declares as many bytes as its file has."""
    if header.file_bytes != num_bytes:
        raise ValueError(
            f"its header declares shape {header.shape} of {header.dtype}, {header.file_bytes} bytes, "
            f"and the file has {num_bytes}"
        )


def _unpack(
    archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo, header: Header
) -> np.ndarray:
    """Return a compressed member's array, unpacked into memory."""
    array = np.empty(header.shape, header.dtype, header.order)  # type: ignore[call-overload]
    if not array.size:  # a view as bytes would be an error
        return array
    room = memoryview(array.reshape(-1, order="A").view(np.uint8))

    # Into the array itself: as bytes first, it would be in memory twice. The last read, beyond the
    # end, makes zipfile compare the checksum.
    with archive.open(member) as opened:
        file: Any = opened  # its readinto is missing from the type
        file.read(header.num_bytes)
        done = 0
        while num := file.readinto(room[done : done + _BLOCK_BYTES]):
            done += num
        if done != len(room) or file.read(1):
            raise ValueError(f"member {member.filename!r} ends early")
    return array


def _map_member(
    archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo, header: Header
) -> np.ndarray:
    """Return a stored member's array, mapped from the file, once its checksum has been compared."""
    start = _content_start(path, member)
    if start + member.file_size > path.stat().st_size:
        raise ValueError(f"member {member.filename!r} ends beyond the file")
    checksum = 0
    with open(path, "rb") as file:
        file.seek(start)
        for at in range(0, member.file_size, _BLOCK_BYTES):
            checksum = zlib.crc32(file.read(min(_BLOCK_BYTES, member.file_size - at)), checksum)
    if checksum != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for member {member.filename!r}")
    return _map(path, header, start + header.num_bytes)


def _content_start(path: Path, member: zipfile.ZipInfo) -> int:
    """Return the position of a member's content, which follows its local header."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + name + extra


def _map(path: Path, header: Header, offset: int) -> np.ndarray:
    """Return the array at a position of a file, mapped and read-only."""
    if not math.prod(header.shape) * header.dtype.itemsize:  # an empty mapping is an error
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset, header.shape, header.order)  # type: ignore[call-overload]
