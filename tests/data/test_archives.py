"""Archives from strangers: what is wrong with them is said in a line that names the file."""

import collections
import functools
import gzip
import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from vdm.data.archives import check_file, load_arrays_pickle, members, read_gzip
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
    (tmp_path / "a.tar").write_bytes(b"abd")
    with pytest.raises(
        DataError, match=rf"a\.tar: wrong checksum: sha256 \w+, but .* it is {digest}"
    ):
        check_file(tmp_path / "a.tar", "it", digest)


BATCH = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3]}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_pickles_of_arrays_are_read(protocol):
    found = load_arrays_pickle(pickle.dumps(BATCH, protocol), "a")
    data = found.get(b"data", found.get("data"))
    np.testing.assert_array_equal(data, BATCH["data"])


def test_a_pickle_as_python_2_wrote_it():
    """The published CIFAR batches: protocol 2, byte strings, numpy.core.multiarray."""
    array = np.arange(3, dtype=np.uint8)
    body = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x03t"
    body += b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    body += b"K\x00tb\x89U\x03" + array.tobytes() + b"tb"
    found = load_arrays_pickle(b"\x80\x02}U\x04data" + body + b"s.", "a")
    np.testing.assert_array_equal(found[b"data"], array)


class Evil:
    """Unpickled by pickle itself, it runs a command."""

    def __init__(self, function, *arguments):
        self._call = (function, arguments)

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (Evil(os.system, "touch pwned"), "posix.system"),
        (Evil(eval, "1"), r"(__builtin__|builtins)\.eval"),
        (Evil(np.load, "a"), r"numpy\S*\.load"),
        (Evil(functools.partial, print), "functools.partial"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
def test_a_pickle_that_names_anything_else(thing, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        content = pickle.dumps({"data": BATCH["data"], "x": thing}, protocol)
        with pytest.raises(DataError, match=rf"batch_1: the pickle names {named}; only arrays"):
            load_arrays_pickle(content, "batch_1")
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_objects_cannot_carry_one():
    array = np.array([Evil(os.system, "touch pwned")], dtype=object)
    with pytest.raises(DataError, match=r"names posix\.system"):
        load_arrays_pickle(pickle.dumps(array, 2), "a")


def test_a_pickle_cannot_ask_for_memory():
    """An array of 2^60 bytes, as the state of a genuine one never says."""
    shape = b"(L" + str(2**60).encode() + b"L\nt"
    content = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + shape + b"S'b'\ntR."
    with pytest.raises(DataError, match=r"a: .*damaged"):
        load_arrays_pickle(content, "a")


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", pickle.dumps(BATCH)[:-40]])
def test_damaged_pickles(content):
    with pytest.raises(DataError, match=r"batch_1: .*damaged"):
        load_arrays_pickle(content, "batch_1")
