"""Archives from unknown sources, read into memory within limits and never unpacked to disk.

Refused with the file's name: names that leave their folder, links and devices, members larger than
they may be, and archives that are cut or damaged.
"""

import bz2
import gzip
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vdm.errors import DataError

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
)
"""Exceptions by which the standard library reports a damaged archive."""
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PACKERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""{first bytes of a file: what opens it}."""
_MAX_HEADER_BYTES = 2**20
"""Most bytes of the headers before one member of a tar, long names included."""
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)


def is_archive(path: Path) -> bool:
    """Return whether the name is that of a tar or a zip."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def members(
    path: Path, wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every wanted file in a tar or zip, in the archive's order.

    Names have forward slashes, also those that Windows wrote with backward ones.

    Args:
      path: the archive.
      wanted: whether the file of a name is read; called once for every file.
      max_bytes: largest size of one member.

    Raises:
      DataError: an unsafe name, a link or device, a member that is too large, or a damaged
        archive.
    """
    read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    try:
        yield from read(path, wanted, max_bytes)
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {describe(error)}; it is cut or damaged") from None


def read_gzip(path: Path, max_bytes: int) -> bytes:
    """Return the content of a .gz file, or of a plain file.

    Raises:
      DataError: more than `max_bytes`, or a file that is cut or damaged.
    """
    try:
        with open(path, "rb") as plain:
            # The two bytes with which every gzip file starts. The name is no evidence: some
            # unpackers keep its suffix.
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            return _limited(file, max_bytes, path)
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {describe(error)}; it is cut or damaged") from None


def check_file(path: Path, name: str, digest: str, algorithm: str = "sha256") -> None:
    """Refuse a file that is not the published one, bit for bit, without holding it in memory.

    Args:
      path: the file.
      name: name of what is published.
      digest: its checksum, in hexadecimal.
      algorithm: name of the checksum, as hashlib knows it.

    Raises:
      DataError: the file cannot be read, or has another checksum.
    """
    try:
        with open(path, "rb") as file:
            actual = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe(error)})") from None
    _compare(path, name, actual, digest, algorithm)


def read_checked(path: Path, name: str, digest: str, algorithm: str, max_bytes: int) -> bytes:
    """Return the content of a file, which must be the published one, bit for bit.

    Content and checksum come from one reading, so that the file cannot change between them.

    Args:
      path: the file.
      name: name of what is published.
      digest: its checksum, in hexadecimal.
      algorithm: name of the checksum, as hashlib knows it.
      max_bytes: largest size; a larger file is refused before it is in memory.

    Raises:
      DataError: the file cannot be read, is too large, or has another checksum.
    """
    try:
        with open(path, "rb") as file:
            content = _limited(file, max_bytes, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe(error)})") from None
    _compare(path, name, hashlib.new(algorithm, content).hexdigest(), digest, algorithm)
    return content


def describe(error: BaseException) -> str:
    """Return a library's exception as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _tar_members(path: Path, wanted, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted files of a tar."""
    with _unpacked(path) as file:
        bounded: Any = _Allowance(file, path)
        tar: Any = tarfile.TarFile(fileobj=bounded)

        # One at a time, and forgotten at once: tarfile would keep every header in memory.
        while (member := tar.next()) is not None:
            tar.members.clear()
            name = _checked_name(path, member.name)
            # Refused even if they are not read: an archive of images needs none.
            if not (member.isdir() or member.isreg()) or member.issparse():
                kind = "sparse" if member.issparse() else "a link or a device"
                raise DataError(f"{path}: member {member.name!r} is {kind}; refused")
            if member.isreg() and wanted(name):
                _check_declared(member.size, max_bytes, f"{path}: member {member.name!r}")
                bounded.seek(member.offset_data)
                content = file.read(member.size)
                if len(content) != member.size:
                    raise EOFError(f"member {member.name!r} ends early")
                yield name, content
            bounded.allow(_MAX_HEADER_BYTES)
        # The packer's own checksum comes last, behind what tarfile reads.
        while file.read(2**20):
            pass


def _unpacked(path: Path) -> Any:
    """Return a tar as an open file, without the compression that its first bytes tell."""
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, opener in _PACKERS.items():
        if start.startswith(magic):
            return opener(path, "rb")
    return open(path, "rb")


class _Allowance:
    """A file of which no more may be read than is allowed, until more is.

    tarfile reads what a header declares, such as a name of 4 GB, and zeros take no space when packed.
    """

    def __init__(self, file: Any, path: Path):
        self._file, self._path, self._left = file, path, _MAX_HEADER_BYTES
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def allow(self, num_bytes: int) -> None:
        """Allow `num_bytes` from here on."""
        self._left = num_bytes

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes; DataError where they are more than allowed."""
        if num_bytes > self._left:
            raise DataError(
                f"{self._path}: a header of more than {_MAX_HEADER_BYTES} bytes; refused"
            )
        self._left -= num_bytes
        return self._file.read(num_bytes)


def _zip_members(path: Path, wanted, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted files of a zip; its names say which are folders."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _checked_name(path, member.filename)
            if not name.endswith("/") and wanted(name):
                where = f"{path}: member {member.filename!r}"
                _check_declared(member.file_size, max_bytes, where)
                with archive.open(member) as file:
                    yield name, _limited(file, max_bytes, where)


def _checked_name(path: Path, name: str) -> str:
    """Return the member's name with forward slashes, or refuse one that leaves its folder."""
    slashed = name.replace("\\", "/")
    path_parts = PurePosixPath(slashed)
    # The colon is that of a Windows drive.
    if path_parts.is_absolute() or ".." in path_parts.parts or ":" in name.partition("/")[0]:
        raise DataError(f"{path}: member {name!r} leaves its folder; refused")
    return slashed


def _compare(path: Path, name: str, actual: str, digest: str, algorithm: str) -> None:
    """Raise DataError if the checksum that was computed is not the published one."""
    if actual != digest:
        raise DataError(
            f"{path}: wrong checksum: {algorithm} {actual}, but that of {name} is {digest}; "
            "it is cut, damaged or another file: fetch it again"
        )


def _check_declared(num_bytes: int, max_bytes: int, where: Any) -> None:
    """Refuse a member by the size that the archive declares, before anything of it is in memory."""
    if num_bytes > max_bytes:
        raise DataError(
            f"{where} holds more than the {max_bytes} bytes it may; "
            "it is another file, or made to fill the memory"
        )


def _limited(file, max_bytes: int, where: Any) -> bytes:
    """Return all of a file, or refuse it if it unpacks to more than `max_bytes`."""
    # One byte more than allowed is enough to know, whatever size a header claims.
    content = file.read(max_bytes + 1)
    _check_declared(len(content), max_bytes, where)
    return content
