"""The canonical order: the same array however the images came."""

import hashlib
import json

import numpy as np
import pytest

from vdm.data.cache.canonical import canonical_order, image_hashes, pixel_hash


def images(num=50, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, (num, 3, 4, 2)).astype(dtype)


def test_each_image_has_the_hash_of_its_bytes():
    found = image_hashes(images(), 256)
    for row, image in zip(found, images(), strict=True):
        assert row.tobytes() == hashlib.sha256(image.tobytes()).digest()


def test_codes_of_two_bytes_are_hashed_little_endian():
    big_endian = images(3, ">u2")
    expected = hashlib.sha256(big_endian[1].astype("<u2").tobytes()).digest()
    assert image_hashes(big_endian, 65_536)[1].tobytes() == expected


def test_order_is_that_of_the_hashes_as_text():
    hashes = image_hashes(images(300), 256)
    expected = sorted(range(300), key=lambda i: hashes[i].tobytes().hex())
    assert canonical_order(hashes).tolist() == expected


def test_shuffled_images_become_the_same_array():
    original, shuffle = images(), np.random.default_rng(1).permutation(50)
    first, second = (
        array[canonical_order(image_hashes(array, 256))] for array in (original, original[shuffle])
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, original)


def test_equal_images_are_sorted_by_label():
    twins = np.repeat(images(2), 3, axis=0)
    labels = np.array([2, 0, 1, 1, 2, 0])
    order = canonical_order(image_hashes(twins, 256), labels)
    assert labels[order].tolist() == [0, 1, 2, 0, 1, 2]


def test_pixel_hash_follows_its_definition():
    found = pixel_hash(image_hashes(images(), 256), (3, 4, 2), 256)
    header = json.dumps({"num_levels": 256, "shape": [50, 3, 4, 2]}).encode()
    digests = sorted(hashlib.sha256(image.tobytes()).digest() for image in images())
    assert found == hashlib.sha256(header + b"".join(digests)).hexdigest()


@pytest.mark.parametrize("change", ["pixel", "fewer", "twice", "shape", "levels"])
def test_pixel_hash_changes_with_what_matters_and_not_with_order(change):
    def digest(array, shape=(3, 4, 2), levels=256):
        return pixel_hash(image_hashes(array, levels), shape, levels)

    array = images()
    assert digest(array[::-1]) == digest(array)
    other = array.copy()
    other[7, 0, 0, 0] ^= 1
    variants = {
        "pixel": lambda: digest(other),
        "fewer": lambda: digest(array[:-1]),
        "twice": lambda: digest(np.concatenate([array, array[:1]])),
        "shape": lambda: digest(array, (4, 3, 2)),
        "levels": lambda: digest(array, levels=200),
    }
    assert variants[change]() != digest(array)
