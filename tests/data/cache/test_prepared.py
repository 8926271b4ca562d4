"""The cache: named by content, written once and whole, never trusted when damaged."""

import concurrent.futures
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vdm.data.cache.content import content_hash
from vdm.data.cache.prepared import open_prepared, prepare
from vdm.errors import ConfigError, DataError, DiskError


def make_splits(num_levels=17, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"train": 6, "validation": 2, "test": 3}
    return {s: rng.integers(0, num_levels, (n, 3, 4, 2)) for s, n in sizes.items()}


def test_content_hash_follows_its_definition():
    """SHA-256 over a JSON header and the codes as bytes, split by split in order of name."""
    splits = {"b": np.arange(6).reshape(1, 3, 2, 1), "a": np.full((2, 3, 2, 1), 5)}
    header = '{"num_levels": 17, "splits": [["a", [2, 3, 2, 1]], ["b", [1, 3, 2, 1]]]}'
    expected = hashlib.sha256(header.encode() + bytes([5] * 12) + bytes(range(6))).hexdigest()
    assert content_hash(splits, 17) == expected


def test_content_hash_of_two_byte_codes_is_little_endian():
    header = '{"num_levels": 300, "splits": [["a", [1, 1, 1, 1]]]}'
    expected = hashlib.sha256(header.encode() + b"\x2b\x01").hexdigest()
    assert content_hash({"a": np.full((1, 1, 1, 1), 299, ">u2")}, 300) == expected


def test_content_hash_ignores_dtype_order_and_layout():
    splits = make_splits()
    digest = content_hash(splits, 17)
    same = {s: np.asfortranarray(a.astype(np.uint8)) for s, a in reversed(splits.items())}
    assert content_hash(same, 17) == digest


def test_content_hash_changes_with_pixels_levels_and_splits():
    splits = make_splits()
    pixel = {s: a.copy() for s, a in splits.items()}
    pixel["test"][0, 0, 0, 0] ^= 1
    renamed = {"valid" if s == "validation" else s: a for s, a in splits.items()}
    exchanged = {**splits, "train": splits["test"], "test": splits["train"]}
    reshaped = {s: a.reshape(-1, 4, 3, 2) for s, a in splits.items()}
    variants = [(splits, 17), (pixel, 17), (renamed, 17), (exchanged, 17), (reshaped, 17)]
    digests = {content_hash(*variant) for variant in [*variants, (splits, 18), (splits, 300)]}
    assert len(digests) == 7


@pytest.mark.parametrize(
    ("num_levels", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65_536, "uint16")]
)
def test_prepared_data_is_what_was_given(tmp_path, num_levels, dtype):
    splits = make_splits(num_levels)
    data = prepare("mine", splits, num_levels, tmp_path, notes="a note")
    assert data.spec.shape == (3, 4, 2) and data.spec.num_levels == num_levels
    assert data.spec.name == "mine" and data.spec.notes == "a note"
    assert data.spec.split_sizes == {"train": 6, "validation": 2, "test": 3}
    assert data.spec.content_hash == content_hash(splits, num_levels)
    for name, array in splits.items():
        np.testing.assert_array_equal(data.split(name), array)
        assert data.split(name).dtype == dtype and not data.split(name).flags.writeable
    stored = open_prepared(tmp_path / data.spec.content_hash, verify=True)
    assert stored.spec == data.spec


def test_preparing_twice_writes_once(tmp_path):
    first = prepare("mine", make_splits(), 17, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = prepare("other", make_splits(), 17, tmp_path, notes="told otherwise")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert second.spec.content_hash == first.spec.content_hash
    assert (second.spec.name, second.spec.notes) == ("other", "told otherwise")


def test_an_unknown_split_lists_the_choices(tmp_path):
    data = prepare("mine", make_splits(), 17, tmp_path)
    with pytest.raises(DataError, match=r"split='dev'.*'mine'.*train, validation, test"):
        data.split("dev")


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VDM_DATA_DIR", str(tmp_path / "here"))
    data = prepare("mine", make_splits(), 17)
    assert (tmp_path / "here" / data.spec.content_hash / "manifest.json").is_file()
    monkeypatch.delenv("VDM_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare("mine", make_splits(), 17)
    assert (tmp_path / "home/.cache/vdm/data" / data.spec.content_hash).is_dir()


@pytest.mark.parametrize(
    ("splits", "num_levels", "error", "message"),
    [
        (make_splits(18), 17, DataError, r"data 'mine': array '\w+' holds 17, outside 0\.\.16"),
        (make_splits(), 1, ConfigError, r"num_levels=1: must be an integer in 2\.\.65536"),
        ({"train": np.zeros((2, 3, 4, 1))}, 17, DataError, "data 'mine'.*dtype float64"),
    ],
)
def test_unsuitable_arrays_write_nothing(tmp_path, splits, num_levels, error, message):
    with pytest.raises(error, match=message):
        prepare("mine", splits, num_levels, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def edit_manifest(folder: Path, **changes) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


DAMAGE = {
    "a cut array": lambda folder: os.truncate(folder / "test.npy", 140),
    "a longer array": lambda folder: os.truncate(folder / "test.npy", 1000),
    "a lost array": lambda folder: (folder / "train.npy").unlink(),
    "a lost manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a cut manifest": lambda folder: os.truncate(folder / "manifest.json", 40),
    "an empty manifest": lambda folder: os.truncate(folder / "manifest.json", 0),
    "a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "binary": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "other data": lambda folder: edit_manifest(folder, content_hash="0" * 64),
    "another version": lambda folder: edit_manifest(folder, format=99),
    "no splits": lambda folder: edit_manifest(folder, splits={}),
    "an array in place of another": lambda folder: shutil.copy(
        folder / "train.npy", folder / "test.npy"
    ),
    "a file instead": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_found_when_opened(tmp_path, kind):
    folder = tmp_path / prepare("mine", make_splits(), 17, tmp_path).spec.content_hash
    DAMAGE[kind](folder)
    with pytest.raises(DataError, match=rf"{folder}: .*damaged .*delete this folder"):
        prepare("mine", make_splits(), 17, tmp_path)


def flip_bit(path: Path, position: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that a set has many, of which opening it hashes a few, as for a large set."""
    monkeypatch.setattr("vdm.data.cache.content.BLOCK_BYTES", 256)


def test_a_flipped_bit_in_any_block_of_a_set_like_cifar_is_found_when_opened(
    tmp_path, small_blocks
):
    """Six blocks were sampled: a bit in another was trained on."""
    splits = {name: np.repeat(array, 100, axis=0) for name, array in make_splits().items()}
    folder = tmp_path / prepare("mine", splits, 17, tmp_path).spec.content_hash
    num_blocks = (folder / "train.npy").stat().st_size // 256
    assert 36 <= num_blocks <= 256  # CIFAR-10 has 36
    for block in range(1, num_blocks, 7):
        flip_bit(folder / "train.npy", 256 * block + 10)
        with pytest.raises(DataError, match=rf"train\.npy holds other data in block {block}"):
            open_prepared(folder)
        flip_bit(folder / "train.npy", 256 * block + 10)
    open_prepared(folder)


def test_a_flipped_bit_between_the_blocks_that_are_sampled_is_found_by_verify(
    tmp_path, small_blocks, monkeypatch
):
    monkeypatch.setattr("vdm.data.cache.prepared._BLOCKS_CHECKED", 6)
    splits = {name: np.repeat(array, 400, axis=0) for name, array in make_splits().items()}
    folder = tmp_path / prepare("mine", splits, 17, tmp_path).spec.content_hash
    flip_bit(folder / "train.npy", 256 + 10)  # the second block of many
    open_prepared(folder)
    with pytest.raises(DataError, match="the pixels do not match the content hash"):
        open_prepared(folder, verify=True)
    # A source that is read anew is compared with all of the cache.
    with pytest.raises(DataError, match="the pixels do not match the content hash"):
        prepare("mine", splits, 17, tmp_path)


@pytest.mark.parametrize("position", [0, 200, -1])
def test_a_flipped_bit_in_the_first_or_last_block_is_found_when_opened(tmp_path, position):
    folder = tmp_path / prepare("mine", make_splits(), 17, tmp_path).spec.content_hash
    size = (folder / "test.npy").stat().st_size
    flip_bit(folder / "test.npy", position % size)
    with pytest.raises(DataError, match=r"test\.npy holds other data in block 0"):
        open_prepared(folder)


def test_a_foreign_file_of_the_same_size_is_refused(tmp_path, small_blocks):
    """CIFAR-10 and CIFAR-100 have files of equal size and header."""
    folders = []
    for seed in (0, 1):
        data = prepare("mine", make_splits(seed=seed), 17, tmp_path)
        folders.append(tmp_path / data.spec.content_hash)
    shutil.copy(folders[0] / "train.npy", folders[1] / "train.npy")
    with pytest.raises(DataError, match=r"train\.npy holds other data in block 0"):
        open_prepared(folders[1])


def test_a_folder_without_block_hashes_is_hashed_in_full(tmp_path):
    """Version 0.1 wrote none."""
    folder = tmp_path / prepare("mine", make_splits(), 17, tmp_path).spec.content_hash
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["splits"].values():
        del entry["blocks"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    open_prepared(folder)
    flip_bit(folder / "test.npy", (folder / "test.npy").stat().st_size - 1)
    with pytest.raises(DataError, match="the pixels do not match the content hash"):
        open_prepared(folder)


LONG = "n" * 300  # too long for a file name, but not for a mistake


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("file", DiskError),
        ("file/below", DiskError),
        (LONG, DiskError),
        ("~no_such_user/a", ConfigError),
    ],
)
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, where, kind):
    """No permissions: these hold for root, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(kind, match=rf"{where}: .*[Ss]et VDM_DATA_DIR"):
        prepare("mine", make_splits(), 17, where)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("VDM_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", "~")  # what expanding ~ gives where no home is known
    with pytest.raises(ConfigError, match=r"~/\.cache/vdm/data: .*set VDM_DATA_DIR"):
        prepare("mine", make_splits(), 17)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskError, match=rf"{tmp_path}: .*No space left.*free space"):
        prepare("mine", make_splits(), 17, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_win_the_race(tmp_path, monkeypatch):
    rename = os.rename

    def lose(source, target):
        shutil.copytree(source, target)  # the other process publishes just before
        rename(source, target)

    monkeypatch.setattr(os, "rename", lose)
    data = prepare("mine", make_splits(), 17, tmp_path)
    np.testing.assert_array_equal(data.split("test"), make_splits()["test"])
    assert [path.name for path in tmp_path.iterdir()] == [data.spec.content_hash]


RACE = """
import pathlib, sys, time, numpy as np
from vdm.data.cache.prepared import prepare
cache, me, other = sys.argv[1:]
pathlib.Path(me).touch()
while not pathlib.Path(other).exists():
    time.sleep(0.001)
for value in range(30):
    image = np.full((500, 8, 8, 1), value)
    data = prepare("race", dict(train=image, validation=image, test=image), 256, cache)
    assert all((array == value).all() for array in data.splits.values())
"""


def test_two_processes_prepare_the_same_data_at_once(tmp_path, run_python):
    cache, a, b = (str(tmp_path / name) for name in ("cache", "a", "b"))
    arguments = [["-c", RACE, cache, a, b], ["-c", RACE, cache, b, a]]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(run_python, arguments))
    folders = list((tmp_path / "cache").iterdir())
    assert len(folders) == 30
    for folder in folders:
        open_prepared(folder, verify=True)
