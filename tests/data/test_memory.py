"""Sets larger than memory are read without being held."""

import re

import numpy as np
import pytest

from vdm.data.base import Dataset
from vdm.data.batches import eval_batches, train_batch
from vdm.types import DataSpec

NUM_BYTES = 15 * 10**9
SHAPE = (64, 64, 3)
NUM_STEPS, BATCH_SIZE = 2000, 128


def anonymous_bytes() -> int:
    """This process's memory that no file backs."""
    text = open("/proc/self/status", encoding="utf-8").read()
    return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024


@pytest.fixture
def sparse(tmp_path):
    """A 15 GB array of zeros that takes no space, with the positions of a few images in them."""
    num_images = NUM_BYTES // int(np.prod(SHAPE))
    path = tmp_path / "train.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (num_images, *SHAPE))
    array[::100_000, 0, 0, 0] = np.arange(len(array[::100_000])) + 1
    del array
    assert path.stat().st_size > NUM_BYTES - 10**5 and path.stat().st_blocks * 512 < 10**8
    images = np.load(path, mmap_mode="r")
    spec = DataSpec("sparse", SHAPE, 256, {"train": num_images}, content_hash="")
    yield Dataset(spec, {"train": images})


@pytest.mark.nightly
def test_256_000_random_reads_of_15_gb_take_no_memory(sparse):
    train_batch(sparse, 0, 0, BATCH_SIZE)
    before, seen = anonymous_bytes(), 0
    for step in range(NUM_STEPS):
        batch = train_batch(sparse, 0, step, BATCH_SIZE)
        marked = batch.index % 100_000 == 0
        expected = np.where(marked, batch.index // 100_000 + 1, 0)
        np.testing.assert_array_equal(batch.images[:, 0, 0, 0], expected)
        seen += int(marked.sum())
    assert NUM_STEPS * BATCH_SIZE == 256_000 and seen > 0
    assert anonymous_bytes() - before < 200e6


@pytest.mark.slow
def test_one_pass_of_evaluation_holds_one_batch(sparse):
    before = anonymous_bytes()
    batches = eval_batches(sparse, "train", 1000)
    assert len(batches) == -(-sparse.spec.split_sizes["train"] // 1000)
    for number, batch in enumerate(batches):
        assert len(batch.index) == 1000
        if number == 100:
            break
    assert anonymous_bytes() - before < 200e6
