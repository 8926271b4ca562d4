"""The memory of a call, against calls of known size."""

import numpy as np
import pytest

from experiments.benchmarks.resident_memory import growth_bytes

MEGABYTE = 2**20


def touch(megabytes):
    """An array of so many megabytes, written to and then dropped."""
    return float(np.ones(megabytes * MEGABYTE // 8).sum())


@pytest.fixture(autouse=True)
def _on_linux():
    if growth_bytes(lambda: 0.0) is None:
        pytest.skip("the system does not tell")


@pytest.mark.parametrize("megabytes", [0, 64, 256])
def test_a_call_of_known_size(megabytes):
    """Twice: what the first call freed does not hide the second's."""
    for _ in range(2):
        found = growth_bytes(lambda: touch(megabytes)) / MEGABYTE
        assert megabytes <= found + 1 <= megabytes + 16


def test_what_is_held_before_does_not_count():
    held = np.ones(256 * MEGABYTE // 8)
    assert growth_bytes(lambda: touch(32)) < 64 * MEGABYTE
    assert held[-1] == 1.0
