"""Fewer bits per channel: floor division, as Glow does."""

import numpy as np
import pytest

from vdm.data import load
from vdm.data.cache.bit_depth import reduce_levels, shift_for
from vdm.errors import ConfigError


@pytest.mark.parametrize("stored", [1, 4, 8, 12, 16])
def test_every_number_of_bits_is_floor_division(stored):
    codes = np.arange(2**stored, dtype=np.uint16)
    for bits in range(1, stored + 1):
        reduced = reduce_levels(codes, shift_for(2**stored, bits, "data"))
        np.testing.assert_array_equal(reduced, np.floor(codes / 2 ** (stored - bits)))
        assert reduced.min() == 0 and reduced.max() == 2**bits - 1


@pytest.mark.parametrize(
    ("num_levels", "bits", "message"),
    [
        (256, 0, r"data\.bits=0: must be in 1\.\.16"),
        (256, 17, r"data\.bits=17: must be in 1\.\.16"),
        (256, 9, r"data\.bits=9: mine has only 8 bits"),
        (17, 3, r"data\.bits=3: mine has 17 levels, no power of two"),
    ],
)
def test_bits_that_do_not_fit_are_refused(num_levels, bits, message):
    with pytest.raises(ConfigError, match=message):
        shift_for(num_levels, bits, "mine")


def test_arrays_with_fewer_bits(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train=images[:30], validation=images[30:35], test=images[35:])
    data = load("arrays", {"path": str(tmp_path / "a.npz")}, tmp_path / "cache", bits=5)
    assert data.spec.num_levels == 32
    np.testing.assert_array_equal(data.split("test"), images[35:] // 8)
    assert "5 of 8 bits per channel (floor of code / 8)" in data.spec.notes


def test_the_digits_have_no_whole_number_of_bits(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.bits=3: .*17 levels"):
        load("digits", {}, tmp_path, bits=3)
