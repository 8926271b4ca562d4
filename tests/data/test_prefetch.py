"""Batches made ahead: in order, whatever fails, and never a thread left behind."""

import threading
import time

import pytest

from vdm.data.prefetch import Prefetcher


def test_batches_come_in_order_whoever_is_slow():
    def make(number):
        time.sleep(0.001 * (number % 3))
        return number * 10

    with Prefetcher(make, 5, 40) as batches:
        assert [batches(n) for n in range(5, 40)] == [n * 10 for n in range(5, 40)]


def test_they_are_made_ahead_but_not_too_far():
    made, ahead = [], threading.Event()

    def make(number):
        made.append(number)
        if number == 3:
            ahead.set()
        return number

    with Prefetcher(make, 0, 100, depth=2) as batches:
        assert batches(0) == 0
        assert ahead.wait(10)  # one given out, two waiting, one in hand
        time.sleep(0.1)
        assert made == [0, 1, 2, 3]


def test_an_error_reaches_the_caller_at_its_batch_and_ends_the_thread():
    def make(number):
        if number == 3:
            raise OSError("the disk is gone")
        return number

    before = threading.active_count()
    with Prefetcher(make, 0, 10) as batches:
        assert [batches(n) for n in range(3)] == [0, 1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            batches(3)
    assert threading.active_count() == before


@pytest.mark.parametrize("used", [0, 1, 4])
def test_leaving_early_ends_the_thread(used):
    before = threading.active_count()
    with Prefetcher(lambda number: number, 0, 1000) as batches:
        for number in range(used):
            batches(number)
    assert threading.active_count() == before


def test_no_batch_beyond_the_last_is_made():
    made = []
    with Prefetcher(lambda number: made.append(number), 0, 3, depth=8) as batches:
        for number in range(3):
            batches(number)
        with pytest.raises(ValueError, match="batch 3 asked for"):
            batches(3)
    assert made == [0, 1, 2]


def test_batches_out_of_order_are_a_mistake():
    with (
        Prefetcher(lambda number: number, 2, 9) as batches,
        pytest.raises(ValueError, match="the next is 2"),
    ):
        batches(5)


def test_nothing_to_make():
    with Prefetcher(lambda number: number, 4, 4) as batches, pytest.raises(ValueError):
        batches(4)
