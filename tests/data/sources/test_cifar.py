"""CIFAR's python and binary forms: small sets of the genuine layout, packed and unpacked."""

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from vdm.data.sources import cifar
from vdm.errors import DataError

NUM = 6
FORMS = {
    "cifar10-python": cifar.CIFAR10[0],
    "cifar10-binary": cifar.CIFAR10[1],
    "cifar100-python": cifar.CIFAR100[0],
    "cifar100-binary": cifar.CIFAR100[1],
}


def batches(layout):
    """{file name: (images [N,32,32,3], labels)}."""
    names = [name for split in layout.batches.values() for name in split]
    rng = np.random.default_rng(1)
    draw = lambda: rng.integers(0, 256, (NUM, 32, 32, 3), dtype=np.uint8)  # noqa: E731
    return {name: (draw(), rng.integers(0, 10, NUM)) for name in names}


def encode(layout, images, labels) -> bytes:
    """As the set's own page describes it: red, green and blue planes, row by row."""
    planes = np.concatenate([images[..., c].reshape(NUM, -1) for c in range(3)], axis=1)
    if layout.labels:
        names = {b"data": planes, layout.labels.encode(): labels.tolist(), b"filenames": [b"a"]}
        return pickle.dumps(names, 2)
    fine = labels[:, None].astype(np.uint8)
    return np.concatenate(
        [fine // 5, fine, planes] if layout.label_bytes == 2 else [fine, planes], 1
    ).tobytes()


def write(folder, layout):
    """Unpacked into `folder`; {file name: (images, labels)}, and the layout with the checksums."""
    content = batches(layout)
    (folder / layout.folder).mkdir()
    for name, (images, labels) in content.items():
        (folder / layout.folder / name).write_bytes(encode(layout, images, labels))
    return content, with_checksums(folder, layout)


def with_checksums(folder, layout):
    """The layout with the checksums of the files that lie unpacked in `folder`."""
    digest = lambda name: hashlib.sha256((folder / layout.folder / name).read_bytes()).hexdigest()  # noqa: E731
    found = {split: {n: digest(n) for n in names} for split, names in layout.batches.items()}
    return dataclasses.replace(layout, batches=found, algorithm="sha256")


def pack(folder, layout):
    """The archive, and the layout with its checksum."""
    content, _ = write(folder, layout)
    with tarfile.open(folder / layout.archive, "w:gz") as tar:
        tar.add(folder / layout.folder, layout.folder)
        tar.addfile(tarfile.TarInfo(f"{layout.folder}/readme.html"), io.BytesIO())
    digest = hashlib.sha256((folder / layout.archive).read_bytes()).hexdigest()
    return content, dataclasses.replace(layout, checksum=("sha256", digest))


def check(material, content, layout):
    for split, names in layout.batches.items():
        images = np.concatenate([content[name][0] for name in names])
        np.testing.assert_array_equal(material.images[split], images)
        labels = np.concatenate([content[name][1] for name in names])
        np.testing.assert_array_equal(material.labels[split], labels)
        assert material.index[split].tolist() == list(range(len(images)))


@pytest.mark.parametrize("form", FORMS)
def test_unpacked_batches_come_back(tmp_path, form):
    content, layout = write(tmp_path, FORMS[form])
    for folder in (tmp_path, tmp_path / layout.folder):
        check(cifar.read(cifar.find(folder, (layout,)), (layout,)), content, layout)


@pytest.mark.parametrize("form", FORMS)
def test_archives_come_back(tmp_path, form):
    content, layout = pack(tmp_path, FORMS[form])
    files = cifar.find(tmp_path, (layout,))
    assert [file.name for file in files] == [layout.archive]
    check(cifar.read(files, (layout,)), content, layout)


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path):
    pack(tmp_path, cifar.CIFAR10[0])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: wrong checksum: md5 \w+"):
        cifar.read(cifar.find(tmp_path, cifar.CIFAR10), cifar.CIFAR10)


@pytest.mark.parametrize("form", FORMS)
def test_an_unpacked_file_that_is_not_the_published_one_is_refused(tmp_path, form):
    """Before it is decoded: a pickle of something else is not looked into."""
    layout = FORMS[form]
    write(tmp_path, layout)
    path = tmp_path / layout.folder / next(iter(layout.batches["train"]))
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(DataError, match=rf"{path}: wrong checksum: {layout.algorithm} \w+"):
        cifar.read(cifar.find(tmp_path, (layout,)), (layout,))


@pytest.mark.parametrize("form", FORMS)
def test_every_file_has_a_checksum(form):
    layout = FORMS[form]
    digests = [digest for batch in layout.batches.values() for digest in batch.values()]
    size = hashlib.new(layout.algorithm).digest_size
    assert {len(bytes.fromhex(digest)) for digest in digests} == {size}
    assert len(set(digests)) == len(digests)


def test_a_cut_archive(tmp_path):
    _, layout = pack(tmp_path, cifar.CIFAR10[0])
    path = tmp_path / layout.archive
    os.truncate(path, path.stat().st_size // 2)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    layout = dataclasses.replace(layout, checksum=("sha256", digest))
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .*cut"):
        cifar.read([path], (layout,))


def test_a_batch_is_missing(tmp_path):
    _, layout = write(tmp_path, cifar.CIFAR10[1])
    (tmp_path / layout.folder / "data_batch_3.bin").unlink()
    assert cifar.find(tmp_path, (layout,)) == []
    rest = sorted((tmp_path / layout.folder).iterdir())
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/data_batch_3\.bin"):
        cifar.read(rest, (layout,))


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_batch_names_its_file(tmp_path, form):
    layout = FORMS[form]
    write(tmp_path, layout)
    path = tmp_path / layout.folder / next(iter(layout.batches["test"]))
    os.truncate(path, path.stat().st_size - 7)
    layout = with_checksums(tmp_path, layout)
    with pytest.raises(DataError, match=rf"{path}: "):
        cifar.read(cifar.find(tmp_path, (layout,)), (layout,))


@pytest.mark.parametrize(
    "content",
    [
        {b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.uint8)},
        {b"data": np.zeros((1, 3072)), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((1, 3000), np.uint8), b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [[0]]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [2**70]},
        {b"data": [[0] * 3072], b"labels": [0]},
        [1, 2],
    ],
)
def test_pickles_of_something_else(tmp_path, content):
    layout = cifar.CIFAR10[0]
    write(tmp_path, layout)
    path = tmp_path / layout.folder / "test_batch"
    path.write_bytes(pickle.dumps(content, 2))
    layout = with_checksums(tmp_path, layout)
    with pytest.raises(DataError, match=rf"{path}: no batch of CIFAR images"):
        cifar.read(cifar.find(tmp_path, (layout,)), (layout,))


def test_a_batch_that_would_run_a_command(tmp_path):
    layout = cifar.CIFAR10[0]
    write(tmp_path, layout)
    path = tmp_path / layout.folder / "data_batch_2"
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    layout = with_checksums(tmp_path, layout)
    with pytest.raises(DataError, match=rf"{path}: the pickle names os\.system"):
        cifar.read(cifar.find(tmp_path, (layout,)), (layout,))
