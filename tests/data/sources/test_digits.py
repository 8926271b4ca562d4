"""scikit-learn's digits, split by a recorded seed: the same images, always in the same split."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vdm.data import load
from vdm.data.cache.prepared import open_prepared
from vdm.data.sources import digits as source

CONTENT_HASH = "3ea53b0fd8a2c374b9645857e066075cf0f4dc00ad283ede5968099119b9572e"
"""Published numbers name it: a change means other images, or the same in another split."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache):
    return load("digits", cache_dir=cache)


def as_rows(images: np.ndarray) -> list[bytes]:
    return sorted(image.astype(np.uint8).tobytes() for image in images)


def test_spec(digits):
    assert digits.spec.name == "digits"
    assert digits.spec.shape == (8, 8, 1) and digits.spec.num_dims == 64
    assert digits.spec.num_levels == 17
    assert digits.spec.split_sizes == {"train": 1400, "validation": 100, "test": 297}
    assert digits.spec.content_hash == CONTENT_HASH


def test_splits_are_disjoint_parts_of_the_original(digits):
    """Together they are scikit-learn's images as a multiset, so no image is in two splits."""
    together = np.concatenate([digits.split(s) for s in ("train", "validation", "test")])
    original = load_digits().images
    assert as_rows(together[..., 0]) == as_rows(original)
    assert len({image.tobytes() for image in together}) == 1797  # all images are distinct


def test_pixels_are_the_original_codes(digits):
    order = np.random.Generator(np.random.PCG64(20_210_701)).permutation(1797)
    expected = load_digits().images[order]
    np.testing.assert_array_equal(digits.split("train")[..., 0], expected[:1400])
    np.testing.assert_array_equal(digits.split("validation")[..., 0], expected[1400:1500])
    np.testing.assert_array_equal(digits.split("test")[..., 0], expected[1500:])
    # The permutation itself, should NumPy ever change it.
    assert order[:6].tolist() == [1525, 1496, 1073, 629, 1523, 468]


def test_the_split_is_recorded_in_the_notes(digits):
    assert "1400/100/297" in digits.spec.notes and "20210701" in digits.spec.notes


def test_arrays_are_read_only_memory_maps_of_bytes(digits):
    for images in digits.splits.values():
        assert isinstance(images, np.memmap) and images.dtype == np.uint8
        assert not images.flags.writeable
        assert images.min() == 0 and images.max() == 16


def test_the_cache_holds_what_was_loaded(digits, cache):
    stored = open_prepared(cache / CONTENT_HASH, verify=True)
    assert stored.spec == digits.spec
    for name, images in digits.splits.items():
        np.testing.assert_array_equal(stored.split(name), images)


def test_the_file_is_what_the_library_loads(monkeypatch):
    whole = load_digits().images
    np.testing.assert_array_equal(source.digit_images(), whole)
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    np.testing.assert_array_equal(source.digit_images(), whole)
