"""A user's own files: every layout and number of levels, and every kind of bad file."""

import zipfile

import numpy as np
import pytest

from vdm.data import load
from vdm.data.sources.arrays import source
from vdm.errors import ConfigError, DataError


def images(num_images, shape=(4, 5, 3), num_levels=256, dtype=np.uint8, seed=0):
    """Random codes over the whole range, both ends included."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, num_levels, (num_images, *shape)).astype(dtype)
    codes.flat[0], codes.flat[-1] = 0, num_levels - 1
    return codes


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def save_single(path, array):
    np.save(path, array)
    return path


def as_set(array) -> set[bytes]:
    return {image.tobytes() for image in array}


def test_npz_with_validation_is_taken_as_it_is(tmp_path):
    stored = {s: images(n, seed=n) for s, n in [("train", 7), ("validation", 3), ("test", 5)]}
    splits, num_levels, notes = source(save(tmp_path / "a.npz", **stored))
    assert num_levels == 256 and notes == ""
    assert set(splits) == set(stored)
    for name, array in stored.items():
        np.testing.assert_array_equal(splits[name], array)


def test_npz_without_validation_gives_a_twentieth_of_train(tmp_path):
    train, test = images(60, seed=1), images(5, seed=2)
    splits, _, notes = source(save(tmp_path / "a.npz", train=train, test=test))
    assert {name: len(array) for name, array in splits.items()} == {
        "train": 57,
        "validation": 3,
        "test": 5,
    }
    assert as_set(splits["train"]) | as_set(splits["validation"]) == as_set(train)
    np.testing.assert_array_equal(splits["test"], test)
    assert notes.startswith("validation is 3 of the 60 images") and "20210701" in notes


def test_npy_is_split_in_90_5_5(tmp_path):
    stored = images(100)
    path = save_single(tmp_path / "a.npy", stored)
    splits, _, notes = source(path)
    assert [len(splits[s]) for s in ("train", "validation", "test")] == [90, 5, 5]
    assert set().union(*map(as_set, splits.values())) == as_set(stored)
    assert "90/5/5" in notes and "20210701" in notes
    again, _, _ = source(path)
    for name, array in splits.items():
        np.testing.assert_array_equal(again[name], array)


def test_three_images_are_the_fewest_that_can_be_split(tmp_path):
    splits, _, _ = source(save_single(tmp_path / "three.npy", images(3)))
    assert [len(array) for array in splits.values()] == [1, 1, 1]
    with pytest.raises(DataError, match=r"two\.npy: 2 images are too few.*at least 3"):
        source(save_single(tmp_path / "two.npy", images(2)))
    with pytest.raises(DataError, match=r"one\.npz: 1 images are too few.*at least 2"):
        source(save(tmp_path / "one.npz", train=images(1), test=images(1)))


@pytest.mark.parametrize(
    ("num_levels", "dtype"),
    [(2, np.uint8), (17, np.int64), (256, np.uint8), (257, np.int32), (65_536, np.uint16)],
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 5, 3), (3, 2, 7)])
def test_any_shape_and_number_of_levels(tmp_path, shape, num_levels, dtype):
    stored = images(20, shape, num_levels, dtype)
    path = save(tmp_path / "a.npz", train=stored, validation=stored[:2], test=stored[2:4])
    data = load("arrays", {"path": str(path), "num_levels": num_levels}, tmp_path / "cache")
    assert data.spec.shape == shape and data.spec.num_levels == num_levels
    assert data.split("train").dtype == (np.uint8 if num_levels <= 256 else np.uint16)
    np.testing.assert_array_equal(data.split("train"), stored)


@pytest.mark.parametrize(("dtype", "expected"), [("u1", 256), ("<u2", 65_536), (">u2", 65_536)])
def test_the_dtype_implies_the_levels(tmp_path, dtype, expected):
    stored = images(30, num_levels=expected, dtype=dtype)
    path = save_single(tmp_path / "a.npy", stored)
    data = load("arrays", {"path": path}, tmp_path / "cache")
    assert data.spec.num_levels == expected
    together = np.concatenate(list(data.splits.values()))
    assert as_set(together) == as_set(stored.astype(together.dtype))


def test_images_without_a_channel_axis_get_one(tmp_path):
    splits, _, _ = source(save_single(tmp_path / "a.npy", images(20, (6, 4))))
    assert splits["train"].shape == (18, 6, 4, 1)


def corrupted(path, change):
    path.write_bytes(change(path.read_bytes()))


BAD_FILES = {
    "empty": (b"", "cannot be read"),
    "text": (b"label,pixel\n1,2\n", "cannot be read"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "cannot be read"),
    "zip of nothing": (b"PK\x05\x06" + bytes(18), r"no array 'train' \(found: none\)"),
}
BAD_ARRAYS = {
    "objects": (np.full((16, 1, 1, 1), None), "cannot be read"),
    "floats": (images(20) / 255.0, "has dtype float64; integer codes are needed"),
    "booleans": (images(20, num_levels=2) > 0, "has dtype bool; integer codes"),
    "flat": (images(20).reshape(20, -1), r"has shape \(20, 60\); \[N,H,W,C\]"),
    "video": (images(20)[None], r"has shape \(1, 20, 4, 5, 3\)"),
    "scalar": (np.uint8(3), r"has shape \(\); \[N,H,W,C\]"),
    "no images": (images(3)[:0], r"has shape \(0, 4, 5, 3\); it needs at least one image"),
    "no channels": (images(20, (4, 5, 1))[..., :0], r"has shape \(20, 4, 5, 0\)"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_numpy_cannot_read(tmp_path, kind):
    content, message = BAD_FILES[kind]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    refused(tmp_path, {"path": path}, DataError, rf"{path}: {message}")


@pytest.mark.parametrize("kind", BAD_ARRAYS)
@pytest.mark.parametrize("stored_as", ["npy", "npz"])
def test_an_array_that_holds_no_images(tmp_path, kind, stored_as):
    array, message = BAD_ARRAYS[kind]
    path = tmp_path / f"bad.{stored_as}"
    if stored_as == "npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, train=array, validation=array, test=array)
    refused(tmp_path, {"path": path}, DataError, rf"{path}: .*{message}")


@pytest.mark.parametrize("stored_as", ["npy", "npz"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file(tmp_path, stored_as, kept):
    path = tmp_path / f"bad.{stored_as}"
    save_single(path, images(50)) if stored_as == "npy" else save(path, train=images(50))
    corrupted(path, lambda content: content[: int(kept * len(content))])
    refused(tmp_path, {"path": path}, DataError, f"{path}: cannot be read")


def test_a_flipped_bit_inside_an_npz(tmp_path):
    path = save(tmp_path / "bad.npz", train=images(50), test=images(50))
    corrupted(path, lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    refused(tmp_path, {"path": path}, DataError, f"{path}: cannot be read .*CRC")


def test_a_member_that_is_no_array(tmp_path):
    path = save(tmp_path / "bad.npz", train=images(5), test=images(5))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "my images")
    message = rf"{path}: cannot be read \(member 'readme\.txt' is not an array\)"
    refused(tmp_path, {"path": path}, DataError, message)


@pytest.mark.parametrize("path", ["missing.npz", ".", "no/such/folder/a.npy", "~no_such_user/a"])
def test_a_missing_file(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, {"path": path}, DataError, rf"{path}: no such file; give the path")


def test_no_path(tmp_path):
    refused(tmp_path, {"path": ""}, ConfigError, r"data\.arrays\.path='': give the path of a \.npz")


@pytest.mark.parametrize(
    ("option", "value"), [("path", None), ("path", 3), ("num_levels", 256.0), ("num_levels", "256")]
)
def test_an_option_of_a_wrong_type(tmp_path, pytestconfig, option, value):
    if pytestconfig.getoption("jaxtyping_packages", None):
        pytest.skip("checked annotations refuse it first")
    options = {"path": save_single(tmp_path / "a.npy", images(20)), option: value}
    refused(tmp_path, options, ConfigError, rf"{option}={value!r}: (give|must be) ")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"train": (4, 4, 1)}, r"no array 'test' \(found: train\)"),
        ({"arr_0": (4, 4, 1)}, r"no array 'train' \(found: arr_0\)"),
        ({"train": (4, 4, 1), "test": (4, 4, 1), "val": (4, 4, 1)}, r"unknown array 'val'"),
        (
            {"train": (4, 4, 1), "test": (4, 5, 1)},
            r"shapes differ .*train \(4, 4, 1\), test \(4, 5",
        ),
        ({"train": (4, 4, 1), "test": (4, 4, 3)}, r"image shapes differ"),
    ],
)
def test_splits_that_do_not_fit(tmp_path, stored, message):
    arrays = {name: images(20, shape) for name, shape in stored.items()}
    path = save(tmp_path / "bad.npz", **arrays)
    refused(tmp_path, {"path": path}, DataError, rf"{path}: .*{message}")


@pytest.mark.parametrize(
    ("value", "num_levels", "message"),
    [
        (-1, 256, r"holds -1, outside 0\.\.255 \(num_levels=256\)"),
        (17, 17, r"holds 17, outside 0\.\.16 \(num_levels=17\)"),
        (65_536, 65_536, r"holds 65536, outside 0\.\.65535"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_codes_out_of_range(tmp_path, split, value, num_levels, message):
    arrays = {s: np.ones((5, 2, 2, 1), np.int32) for s in ("train", "validation", "test")}
    arrays[split][2, 1, 0, 0] = value
    options = {"path": save(tmp_path / "bad.npz", **arrays), "num_levels": num_levels}
    refused(tmp_path, options, DataError, rf"bad\.npz: array '{split}' {message}")


@pytest.mark.parametrize("num_levels", [1, 0, -5, 65_537, True])
def test_a_number_of_levels_out_of_range(tmp_path, num_levels):
    options = {"path": save_single(tmp_path / "a.npy", images(20)), "num_levels": num_levels}
    message = rf"num_levels={num_levels!r}: must be an integer in 2\.\.65536"
    refused(tmp_path, options, ConfigError, message)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32])
def test_a_dtype_that_implies_no_levels(tmp_path, dtype):
    path = save_single(tmp_path / "a.npy", images(20, num_levels=9, dtype=dtype))
    message = rf"num_levels=None: {path} holds {np.dtype(dtype)}; only uint8"
    refused(tmp_path, {"path": path}, ConfigError, message)


def refused(tmp_path, options, error, message):
    """One line, of the right class, and nothing written."""
    with pytest.raises(error, match=message) as caught:
        load("arrays", options, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()
