"""Batches: each image once per epoch or pass, and pure functions of (seed, step)."""

import numpy as np
import pytest

from vdm.data.base import Dataset
from vdm.data.batches import eval_batches, train_batch, train_indices
from vdm.errors import ConfigError, DataError
from vdm.types import DataSpec


def dataset(num_images: int) -> Dataset:
    """Images whose first pixel is their own position in the split."""
    images = np.zeros((num_images, 2, 3, 1), np.uint16)
    images[:, 0, 0, 0] = np.arange(num_images)
    spec = DataSpec("counted", (2, 3, 1), 65_536, {"train": num_images}, content_hash="")
    return Dataset(spec, {"train": images})


def order(seed: int, batch_size: int, num_images: int, num_steps: int) -> np.ndarray:
    """All indices of the first `num_steps` batches, end to end."""
    steps = [train_indices(seed, n, batch_size, num_images) for n in range(num_steps)]
    return np.concatenate(steps)


@pytest.mark.parametrize(
    ("batch_size", "num_images"), [(1, 5), (4, 12), (5, 12), (12, 12), (30, 12), (7, 1), (128, 50)]
)
def test_every_image_comes_once_per_epoch(batch_size, num_images):
    num_steps = 6 * num_images  # six epochs or more, and a whole number of them
    indices = order(3, batch_size, num_images, num_steps)
    assert indices.shape == (num_steps * batch_size,)
    for epoch in indices.reshape(-1, num_images):
        assert sorted(epoch) == list(range(num_images))


def test_epochs_have_different_orders():
    epochs = order(0, 20, 20, 5)
    assert len({tuple(epoch) for epoch in epochs.reshape(5, 20)}) == 5


def test_a_batch_depends_on_seed_and_step_alone():
    forwards = [train_indices(7, n, 8, 30) for n in range(12)]
    backwards = [train_indices(7, n, 8, 30) for n in reversed(range(12))][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_indices_of_a_fixed_seed_never_change():
    """A resumed run relies on the same order from one version to the next."""
    key = np.random.SeedSequence([1, 2])  # seed 1, epoch 2
    expected = np.random.Generator(np.random.PCG64(key)).permutation(10)
    np.testing.assert_array_equal(train_indices(1, 4, 5, 10), expected[:5])
    np.testing.assert_array_equal(train_indices(1, 5, 5, 10), expected[5:])


def test_seeds_differ():
    orders = {tuple(order(seed, 10, 50, 5)) for seed in (0, 1, 2, 2**32 - 1)}
    assert len(orders) == 4


def test_a_batch_far_into_training_needs_no_replay():
    step = 10**9
    position = step * 128
    epoch, start = divmod(position, 50_000)
    key = np.random.SeedSequence([5, epoch])
    expected = np.random.Generator(np.random.PCG64(key)).permutation(50_000)[start:][:128]
    np.testing.assert_array_equal(train_indices(5, step, 128, 50_000), expected)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("seed", -1), ("seed", 2**32), ("step", -1), ("batch_size", 0), ("num_images", 0)],
)
def test_an_argument_out_of_range_is_named(argument, value):
    arguments = {"seed": 0, "step": 0, "batch_size": 4, "num_images": 10, argument: value}
    with pytest.raises(ConfigError, match=rf"{argument}={value}: must be"):
        train_indices(**arguments)


def test_train_batch_holds_the_images_of_its_indices():
    batch = train_batch(dataset(10), seed=2, step=3, batch_size=4)
    np.testing.assert_array_equal(batch.index, train_indices(2, 3, 4, 10))
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0], batch.index)
    assert batch.images.shape == (4, 2, 3, 1) and batch.images.dtype == np.uint16
    assert batch.mask.all() and batch.mask.dtype == bool
    assert not batch.conditioning.any() and batch.conditioning.dtype == np.float32


@pytest.mark.parametrize("process_count", [1, 2, 3, 12])
def test_shares_of_processes_make_up_the_global_batch(process_count):
    data = dataset(20)
    whole = train_batch(data, 0, 5, 12)
    shares = [train_batch(data, 0, 5, 12, "train", p, process_count) for p in range(process_count)]
    assert {len(share.index) for share in shares} == {12 // process_count}
    for field in ("images", "index", "mask", "conditioning"):
        joined = np.concatenate([getattr(share, field) for share in shares])
        np.testing.assert_array_equal(joined, getattr(whole, field))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process_count": 5}, "batch_size=12: must be a multiple of process_count=5"),
        ({"process_count": 0}, "process_count=0: must be at least 1"),
        ({"process_count": 3, "process_index": 3}, r"process_index=3: must be in 0\.\.2"),
        ({"process_index": -1}, r"process_index=-1: must be in 0\.\.0"),
    ],
)
def test_a_share_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        train_batch(dataset(20), 0, 0, 12, **arguments)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11, 64])
def test_evaluation_visits_every_image_once_and_masks_padding(batch_size):
    batches = list(eval_batches(dataset(10), "train", batch_size))
    assert len(batches) == -(-10 // batch_size)
    assert {batch.images.shape for batch in batches} == {(batch_size, 2, 3, 1)}
    mask = np.concatenate([batch.mask for batch in batches])
    index = np.concatenate([batch.index for batch in batches])
    pixels = np.concatenate([batch.images[:, 0, 0, 0] for batch in batches])
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < 10)
    np.testing.assert_array_equal(index[mask], np.arange(10))
    np.testing.assert_array_equal(pixels[mask], np.arange(10))
    assert (pixels[~mask] == 9).all()  # padding holds a genuine image, so nothing overflows


def test_mistakes_surface_at_the_call():
    with pytest.raises(ConfigError, match="batch_size=0: must be at least 1"):
        eval_batches(dataset(4), "train", 0)
    with pytest.raises(DataError, match=r"split='valid'.*'counted'.*choose one of train"):
        eval_batches(dataset(4), "valid", 2)
    with pytest.raises(DataError, match=r"split='test'.*choose one of train"):
        train_batch(dataset(4), 0, 0, 2, split="test")
