"""Builders of hostile data files: `build(folder)` writes one and returns the words of its launcher.

A name that tries to leave its folder points at `folder.parent / "outside"`.
"""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.data.reading.test_images import png
from tests.data.reading.test_npy import HOSTILE as NPZ
from tests.data.reading.test_npy import header
from tests.data.reading.test_pickles import HOSTILE as PICKLES
from tests.data.sources.test_idx import idx_bytes

GIB = 2**30


def photo(kind="PNG", shape=(4, 4, 3), **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def prepared(name):
    return ["prepare_data", f"--dataset={name}"]


def as_file(name, content, dataset="folder"):
    """A case of one file, of the bytes `content` or of what `content(folder)` gives."""

    def build(folder):
        (folder / name).write_bytes(content(folder) if callable(content) else content)
        return prepared(f"{dataset}:{folder / name}")

    return build


def as_image(name, content):
    """A case of a folder that holds a good image and a hostile one."""

    def build(folder):
        (folder / "set").mkdir()
        (folder / "set" / "a.png").write_bytes(photo())
        (folder / "set" / name).write_bytes(content)
        return prepared(f"folder:{folder / 'set'}")

    return build


def zeros(start: bytes, num_bytes: int) -> bytes:
    """`start` and then zeros, deflated without spending the time: one block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**22)) + packer.flush(zlib.Z_FULL_FLUSH)
    return stream + block * (num_bytes // 2**22) + packer.flush()


def checksum(start: bytes, num_bytes: int) -> int:
    """CRC-32 of `start` and then zeros."""
    value, block = zlib.crc32(start), bytes(2**22)
    for _ in range(num_bytes // 2**22):
        value = zlib.crc32(block, value)
    return value


def gzip_zeros(start: bytes, num_bytes: int) -> bytes:
    """A valid .gz of `start` and then zeros."""
    size = (len(start) + num_bytes) % 2**32
    end = struct.pack("<II", checksum(start, num_bytes), size)
    return b"\x1f\x8b\x08\0\0\0\0\0\2\3" + zeros(start, num_bytes) + end


def tar_of(*members, mode="w") -> bytes:
    """A tar of (name, content) or TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content) if content else None)
    return file.getvalue()


def info(name, kind=tarfile.REGTYPE, **attributes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    return member


def tar_bomb(kind, num_bytes) -> bytes:
    """A tar.gz whose first header declares `num_bytes`, all of them there, and all zeros."""
    start = info("a.png", kind, size=num_bytes).tobuf(tarfile.GNU_FORMAT)
    return gzip_zeros(start, num_bytes)


def sparse_bomb() -> bytes:
    """Old GNU format: a sparse file of 1 TB in one header."""
    buffer = bytearray(info("a.png", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    buffer[386:410] = b"00000000000\0" * 2
    buffer[483:495] = b"\x80" + (10**12).to_bytes(11, "big")
    buffer[148:156] = b" " * 8
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    return bytes(buffer) + bytes(1024)


def zip_of(*members) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def zip_with(at_local: int, at_directory: int, format: str, value) -> bytes:
    """A zip of one image, with a field of its local header and of the directory set."""
    content = bytearray(zip_of(("a.png", photo())))
    struct.pack_into(format, content, at_local, value)
    struct.pack_into(format, content, content.index(b"PK\x01\x02") + at_directory, value)
    return bytes(content)


def zip_bomb(declared: int, num_bytes: int = GIB) -> bytes:
    """A zip whose one member unpacks to `num_bytes` zeros and declares `declared`."""
    stream = zeros(b"", num_bytes)
    honest = zip_of(("a.png", b""))
    directory = bytearray(honest[honest.index(b"PK\x01\x02") :])
    local = bytearray(honest[: 30 + len("a.png")])
    for part, at_method, at_sizes in ((local, 8, 14), (directory, 10, 16)):
        struct.pack_into("<H", part, at_method, zipfile.ZIP_DEFLATED)
        sizes = (checksum(b"", num_bytes), len(stream), declared)
        struct.pack_into("<III", part, at_sizes, *sizes)
    end = directory.rindex(b"PK\x05\x06")
    struct.pack_into("<I", directory, end + 16, len(local) + len(stream))
    return bytes(local + stream + directory)


def mnist(**files):
    """A case of the four files, some of them replaced; each is idx, gzipped or not."""

    def build(folder):
        arrays = {
            "images-idx3": np.zeros((4, 2, 2), np.uint8),
            "labels-idx1": np.zeros(4, np.uint8),
        }
        for split in ("train", "t10k"):
            for kind, array in arrays.items():
                content = files.get(f"{split}_{kind[:6]}", idx_bytes(array))
                (folder / f"{split}-{kind}-ubyte").write_bytes(content)
        return [*prepared("mnist"), f"--source_dir={folder}"]

    return build


def cifar(content):
    """A case of unpacked batches, all of them `content`."""

    def build(folder):
        batches = folder / "cifar-10-batches-py"
        batches.mkdir()
        for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
            (batches / name).write_bytes(content)
        return [*prepared("cifar10"), f"--source_dir={folder}"]

    return build


def mosaics(labels):
    """A case of mosaics with a hostile labels.npz."""

    def build(folder):
        for split in ("train", "test"):
            (folder / f"{split}.png").write_bytes(photo(shape=(32, 32, 3)))
        (folder / "labels.npz").write_bytes(labels)
        return [*prepared("cifar10"), f"--source_dir={folder}"]

    return build


def tiff(entries, count=None) -> bytes:
    """A TIFF by its specification: entries (tag, type, count, value), and where the next list is."""
    listed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + struct.pack("<I", count or 0)


def grey(width, height, strip=(8, 4)):
    """The tags of a grey TIFF whose one strip has (offset, bytes)."""
    sizes = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)]
    return [
        *sizes,
        (262, 3, 1, 1),
        (273, 4, 1, strip[0]),
        (278, 4, 1, height),
        (279, 4, 1, strip[1]),
    ]


def resized_png(width, height) -> bytes:
    """A PNG that declares another size than it has pixels for."""
    content = bytearray(png(2, 8, bytes(12)))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def chunk_png(name: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk."""
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    content = photo()
    return content[:33] + chunk + content[33:]


def link(folder):
    (folder / "set").mkdir()
    (folder / "set" / "a.png").symlink_to(folder.parent / "outside" / "secret.png")
    return prepared(f"folder:{folder / 'set'}")


def pipe(folder):
    os.mkfifo(folder / "a.npz")
    return prepared(f"arrays:{folder / 'a.npz'}")


def device(folder):
    return prepared("arrays:/dev/zero")


class Command:
    """Unpickled by pickle itself, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch ../outside/pwned",)


def escape(folder) -> str:
    return str(folder.parent / "outside" / "a.png")


FILES = {
    "tar: up": as_file("a.tar", tar_of(("../../outside/a.png", photo()))),
    "tar: absolute": as_file("a.tar", lambda f: tar_of((escape(f), photo()))),
    "tar: symlink": as_file("a.tar", tar_of(info("a.png", tarfile.SYMTYPE, linkname="../../outside"))),
    "tar: hard link": as_file("a.tar", tar_of(info("a.png", tarfile.LNKTYPE, linkname="/etc/passwd"))),
    "tar: device": as_file("a.tar", tar_of(info("a.png", tarfile.CHRTYPE))),
    "tar: pipe": as_file("a.tar", tar_of(info("a.png", tarfile.FIFOTYPE))),
    "tar: bomb": as_file("a.tar.gz", tar_bomb(tarfile.REGTYPE, 2**29)),
    "tar: bomb below the limit": as_file("a.tar.gz", tar_bomb(tarfile.REGTYPE, 2**28)),
    "tar: long name of 2 GiB": as_file("a.tar.gz", tar_bomb(tarfile.GNUTYPE_LONGNAME, 2**31)),
    "tar: extended header of 2 GiB": as_file("a.tar.gz", tar_bomb(tarfile.XHDTYPE, 2**31)),
    "tar: sparse file of 1 TB": as_file("a.tar", sparse_bomb()),
    "tar: member of 8 GB that is not there": as_file("a.tar", info("a.png", size=8**10).tobuf()),
    "tar: cut": as_file("a.tar.gz", tar_of(("a.png", os.urandom(9999)), mode="w:gz")[:5000]),
    "tar: no tar": as_file("a.tar", b"hello" * 1000),
    "tar: empty": as_file("a.tar", b""),
    "zip: up": as_file("a.zip", zip_of(("../../outside/a.png", photo()))),
    "zip: absolute": as_file("a.zip", lambda f: zip_of((escape(f), photo()))),
    "zip: backslashes": as_file("a.zip", zip_of(("..\\..\\outside\\a.png", photo()))),
    "zip: drive": as_file("a.zip", zip_of(("C:/a.png", photo()))),
    "zip: bomb": as_file("a.zip", zip_bomb(GIB)),
    "zip: bomb that declares little": as_file("a.zip", zip_bomb(1000)),
    "zip: bomb below the limit": as_file("a.zip", zip_bomb(2**28, 2**28)),
    "zip: encrypted": as_file("a.zip", zip_with(6, 8, "<H", 1)),
    "zip: unknown compression": as_file("a.zip", zip_with(8, 10, "<H", 77)),
    "zip: cut": as_file("a.zip", zip_of(("a.png", photo()))[:-30]),
    **{f"npz: {kind}": as_file("a.npz", content, "arrays") for kind, (content, _) in NPZ.items()},
    "npy: shape of 4 TB": as_file("a.npy", header((2**40, 2, 2, 1)) + bytes(20), "arrays"),
    "npy: shape that overflows": as_file("a.npy", header((2**62, 2, 2, 1)) + bytes(20), "arrays"),
    "npy: objects": as_file("a.npy", header((5, 2, 2, 1), "|O") + pickle.dumps(Command()), "arrays"),
    "npy: header of 4 GB": as_file("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{", "arrays"),
    "npy: header with a call": as_file(
        "a.npy", b"\x93NUMPY\1\0\x20\0" + b"{'shape': __import__('os')}".ljust(32), "arrays"
    ),
    "npy: pipe": pipe,
    "npy: device": device,
    "idx: shape of 2^96": mnist(train_images=struct.pack(">4B3I", 0, 0, 8, 3, *(2**32 - 1,) * 3)),
    "idx: bomb": mnist(train_images=gzip_zeros(idx_bytes(np.zeros((1, 1, 1), np.uint8)), 2**29)),
    "idx: another type": mnist(train_images=idx_bytes(np.zeros((2, 3, 4), np.uint8), kind=13)),
    "idx: cut": mnist(train_labels=gzip.compress(idx_bytes(np.zeros(4, np.uint8)))[:-9]),
    "idx: labels that do not fit": mnist(t10k_labels=idx_bytes(np.zeros(3, np.uint8))),
    "pickle: command": cifar(pickle.dumps(Command())),
    "pickle: pointer": cifar(PICKLES["a pointer"]),
    "pickle: lists of lists": cifar(PICKLES["lists of lists"]),
    "pickle: deep": cifar(PICKLES["a deep key"]),
    "mosaics: bomb": mosaics(NPZ["a bomb of 1 GiB"][0]),
    "mosaics: objects": mosaics(NPZ["objects"][0]),
    "png: 10^10 pixels": as_image("b.png", resized_png(100_000, 100_000)),
    "png: 67 million pixels that are not there": as_image("b.png", resized_png(2**13, 2**13)),
    "png: another size": as_image("b.png", png(2, 8, bytes(3 * 2**13), 2**13, 2**13)),
    "png: text bomb": as_image("b.png", chunk_png(b"zTXt", b"a\0\0\x78\xda" + zeros(b"", GIB))),
    "png: profile bomb": as_image("b.png", chunk_png(b"iCCP", b"a\0\0\x78\xda" + zeros(b"", GIB))),
    "png: cut": as_image("b.png", photo()[:-30]),
    "png: link": link,
    "tiff: 10^10 pixels": as_image("b.tif", tiff(grey(100_000, 100_000))),
    "tiff: no pixels behind it": as_image("b.tif", tiff(grey(2**13, 2**13, (8, 2**26)))),
    "tiff: a list that follows itself": as_image("b.tif", tiff(grey(4, 4), count=8)),
    "tiff: 4 billion strips": as_image("b.tif", tiff([*grey(4, 4)[:-3], (273, 4, 2**32 - 1, 8)])),
    "bmp: negative size": as_image("b.bmp", photo("BMP").replace(b"\4\0\0\0\4\0\0\0", b"\xff" * 8, 1)),
    "webp: cut": as_image("b.webp", photo("WEBP", lossless=True)[:-9]),
    "jpeg: 65535 x 65535": as_image(
        "b.jpg", photo("JPEG").replace(b"\x08\0\4\0\4", b"\x08\xff\xff\xff\xff", 1)
    ),
    "builder that is a program": lambda folder: prepared("tfds:someone:cats"),
}  # fmt: skip
"""{format: what is wrong: builder}; each is refused with exit code 2 or 3."""
