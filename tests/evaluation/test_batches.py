"""The one loop over batches: every image once in every randomisation, in order, and no padding."""

import numpy as np
import pytest

from vdm.evaluation.batches import join, visit
from vdm.runtime.devices import make_mesh
from vdm.types import Batch


def batches(num_images, size):
    found = []
    for start in range(0, num_images, size):
        place = np.arange(start, start + size)
        mask = place < num_images
        images = np.where(mask, place, 255).reshape(size, 1, 1, 1)
        index = np.minimum(place, num_images - 1).astype(np.int32)
        found.append(Batch(images, index, mask, np.zeros(size, np.float32)))
    return found


def step(batch, randomisation):
    """Names in no alphabetical order, and values that tell image and randomisation."""
    values = np.asarray(batch.images)[:, 0, 0, 0] + 1000.0 * randomisation
    return {"z": values, "a": np.stack([values, -values], axis=1)}


@pytest.mark.parametrize("size", [1, 4, 7, 16])
def test_every_image_once_whatever_the_batch_size(size):
    told = []
    found = list(visit(batches(7, size), step, 3, make_mesh(1), lambda *done: told.append(done)))
    index, values = join(found)
    expected = np.arange(7) + 1000.0 * np.arange(3)[:, None]
    assert index.tolist() == list(range(7)) and list(values) == ["z", "a"]
    np.testing.assert_array_equal(values["z"], expected)
    np.testing.assert_array_equal(values["a"], np.stack([expected, -expected], axis=-1))
    calls = 3 * len(found)
    assert told == [(n + 1, calls) for n in range(calls)]


def test_batches_are_asked_for_one_by_one():
    """A split larger than memory: nothing is read ahead of its turn."""
    read = []

    class Lazy(list):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                read.append(number)
                yield batch

    for number, _ in enumerate(visit(Lazy(batches(7, 2)), step, 2, make_mesh(1))):
        assert read == list(range(number + 1))
