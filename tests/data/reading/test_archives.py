"""Archives from strangers: what is wrong with them is said in a line that names the file."""

import gzip
import io
import os
import tarfile
import zipfile

import pytest

from vdm.data.reading.archives import check_file, members, read_checked, read_gzip
from vdm.errors import DataError


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def read_all(path, max_bytes=10**6):
    return dict(members(path, lambda name: True, max_bytes))


WRITERS = {"a.tar.gz": write_tar, "a.zip": write_zip}
FILES = {"a/one": os.urandom(50_000), "a/two": b"2"}


@pytest.mark.parametrize("name", WRITERS)
def test_members_come_back(tmp_path, name):
    path = WRITERS[name](tmp_path / name, FILES)
    assert read_all(path) == FILES
    assert dict(members(path, lambda name: name.endswith("two"), 10)) == {"a/two": b"2"}
    assert list(tmp_path.iterdir()) == [path]  # nothing is unpacked


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("escape", ["../up", "/etc/absolute", "a/../../up", "a\\..\\..\\up"])
def test_members_that_leave_their_folder(tmp_path, name, escape):
    path = WRITERS[name](tmp_path / name, {"a/one": b"1", escape: b"2"})
    with pytest.raises(DataError, match=rf"{name}: member .*leaves its folder"):
        read_all(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices(tmp_path, kind):
    info = tarfile.TarInfo("a/link")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(info)
    with pytest.raises(DataError, match=r"a\.tar: member 'a/link' is a link or a device"):
        read_all(tmp_path / "a.tar")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9])
def test_cut_archives(tmp_path, name, kept):
    path = WRITERS[name](tmp_path / name, FILES)
    size = path.stat().st_size
    os.truncate(path, int(kept * size) if kept < 1 else kept)
    with pytest.raises(DataError, match=rf"{name}: .*cut or damaged"):
        read_all(path)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_archives(tmp_path, name):
    path = WRITERS[name](tmp_path / name, FILES)
    content = bytearray(path.read_bytes())
    content[20_000:20_100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*cut or damaged"):
        read_all(path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_bomb_is_not_unpacked(tmp_path, name):
    """100 MB of zeros in 100 kB."""
    path = WRITERS[name](tmp_path / name, {"a/bomb": bytes(10**8)})
    assert path.stat().st_size < 10**6
    with pytest.raises(DataError, match=rf"{name}: member 'a/bomb' holds more than the 1000 bytes"):
        read_all(path, max_bytes=1000)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"none\.zip: .*No such file"):
        read_all(tmp_path / "none.zip")


def test_gzip_limits_and_damage(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(FILES["a/one"]))
    assert read_gzip(path, 50_000) == FILES["a/one"]
    with pytest.raises(DataError, match=r"a\.gz holds more than the 49999 bytes"):
        read_gzip(path, 49_999)
    os.truncate(path, 30_000)
    with pytest.raises(DataError, match=r"a\.gz: .*cut or damaged"):
        read_gzip(path, 50_000)
    path.write_bytes(b"plain")
    assert read_gzip(path, 50_000) == b"plain"


def test_a_wrong_checksum_names_file_and_digest(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, B.1
    check_file(tmp_path / "a.tar", "it", digest)
    assert read_checked(tmp_path / "a.tar", "it", digest, "sha256", 3) == b"abc"
    with pytest.raises(DataError, match=r"a\.tar holds more than the 2 bytes"):
        read_checked(tmp_path / "a.tar", "it", digest, "sha256", 2)
    (tmp_path / "a.tar").write_bytes(b"abd")
    refusal = rf"a\.tar: wrong checksum: sha256 \w+, but .* it is {digest}"
    with pytest.raises(DataError, match=refusal):
        check_file(tmp_path / "a.tar", "it", digest)
    with pytest.raises(DataError, match=refusal):
        read_checked(tmp_path / "a.tar", "it", digest, "sha256", 3)
