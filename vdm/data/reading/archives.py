"""Reading archives from strangers: members into memory, within limits, nothing ever unpacked to disk.

Refused with the file's name: names that leave their folder, links and devices, members larger than they
may be, and archives that are cut or damaged.
"""

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
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar or a zip."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def members(
    path: Path, wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every wanted file in a tar or zip, in the archive's order.

    Names have forward slashes, also those that Windows wrote with backward ones.

    Raises:
      DataError: see the top of this file.
    """
    read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    try:
        yield from read(path, wanted, max_bytes)
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {describe(error)}; it is cut or damaged") from None


def read_gzip(path: Path, max_bytes: int) -> bytes:
    """The content of a .gz file, or of a plain file."""
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            return _limited(file, max_bytes, path)
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {describe(error)}; it is cut or damaged") from None


def check_file(path: Path, name: str, digest: str, algorithm: str = "sha256") -> None:
    """Refuses a file that is not the published one, bit for bit."""
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe(error)})") from None
    _compare(path, name, found, digest, algorithm)


def read_checked(path: Path, name: str, digest: str, algorithm: str, max_bytes: int) -> bytes:
    """The content of a file, which must be the published one, bit for bit.

    Args:
      path: the file.
      name: what is published.
      digest: its checksum, in hexadecimal.
      algorithm: name of the checksum, as hashlib knows it.
      max_bytes: a file of more is refused before it is in memory.
    """
    try:
        with open(path, "rb") as file:
            content = _limited(file, max_bytes, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe(error)})") from None
    _compare(path, name, hashlib.new(algorithm, content).hexdigest(), digest, algorithm)
    return content


def describe(error: BaseException) -> str:
    """One line for a library's exception."""
    return " ".join(str(error).split()) or type(error).__name__


def _tar_members(path: Path, wanted, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            name = _checked_name(path, member.name)
            if member.isdir():
                continue
            if not member.isreg():
                raise DataError(f"{path}: member {member.name!r} is a link or a device; refused")
            if wanted(name):
                file = tar.extractfile(member)
                assert file is not None
                content = _limited(file, max_bytes, f"{path}: member {member.name!r}")
                if len(content) != member.size:
                    raise EOFError(f"member {member.name!r} ends early")
                yield name, content
        # The packer's own checksum comes last, behind what tarfile reads.
        while tar.fileobj is not None and tar.fileobj.read(2**20):
            pass


def _zip_members(path: Path, wanted, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = _checked_name(path, member.filename)
            if not name.endswith("/") and wanted(name):
                with archive.open(member) as file:
                    where = f"{path}: member {member.filename!r}"
                    yield name, _limited(file, max_bytes, where)


def _checked_name(path: Path, name: str) -> str:
    """The member's name with forward slashes."""
    slashed = name.replace("\\", "/")
    parts = PurePosixPath(slashed)
    if parts.is_absolute() or ".." in parts.parts or ":" in name.partition("/")[0]:
        raise DataError(f"{path}: member {name!r} leaves its folder; refused")
    return slashed


def _compare(path: Path, name: str, found: str, digest: str, algorithm: str) -> None:
    if found != digest:
        raise DataError(
            f"{path}: wrong checksum: {algorithm} {found}, but that of {name} is {digest}; "
            "it is cut, damaged or another file: fetch it again"
        )


def _limited(file, max_bytes: int, where: Any) -> bytes:
    """All of a file, unless it unpacks to more than it may."""
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise DataError(
            f"{where} holds more than the {max_bytes} bytes it may; "
            "it is another file, or made to fill the memory"
        )
    return content
