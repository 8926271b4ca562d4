"""Augmentation: pure draws, genuine transforms, and a flag that tells the truth."""

import itertools

import numpy as np
import pytest

from vdm.data.augment import Augmentation, apply, draw
from vdm.data.base import Dataset
from vdm.data.batches import eval_batches, train_batch
from vdm.errors import ConfigError
from vdm.types import DataSpec

ALL = Augmentation(flip=True, rotate=True, permute_channels=True)


def images(num, shape=(5, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)


def group(image, augmentation):
    """All images that the transforms can make of one, by definition."""
    channels = image.shape[-1]
    flips = [image, np.fliplr(image)] if augmentation.flip else [image]
    turns = range(4) if augmentation.rotate else [0]
    orders = [tuple(range(channels))]
    if augmentation.permute_channels:
        orders = list(itertools.permutations(range(channels)))
    return [np.rot90(f, k)[..., list(o)] for f in flips for k in turns for o in orders]


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True),
        Augmentation(rotate=True),
        Augmentation(permute_channels=True),
        ALL,
    ],
)
def test_results_are_members_of_the_group_and_all_members_come(augmentation):
    """Random images have no symmetry, so that every transform shows."""
    one = images(1)[0]
    members = group(one, augmentation)
    seen = set()
    for step in range(4):
        out, _ = apply(draw(augmentation, 7, step, 256, 3), np.repeat(one[None], 256, axis=0))
        for changed in out:
            seen.add(next(i for i, m in enumerate(members) if np.array_equal(m, changed)))
    assert seen == set(range(len(members)))


def test_the_flag_is_0_exactly_where_the_image_came_out_unchanged():
    batch = images(600)
    batch[::3] = 9  # constant images, which no transform changes
    batch[1::3] = np.maximum(batch[1::3], batch[1::3, :, ::-1])  # mirror images of themselves
    out, flag = apply(draw(ALL, 0, 3, 600, 3), batch)
    unchanged = np.array([np.array_equal(a, b) for a, b in zip(out, batch, strict=True)])
    np.testing.assert_array_equal(flag == 0, unchanged)
    assert flag.dtype == np.float32 and set(flag.tolist()) == {0.0, 1.0}
    assert unchanged[::3].all() and 0 < unchanged[2::3].mean() < 0.3


def test_one_image_in_eight_stays_clean():
    """Three transforms of probability 1/2; the standard error of 20,000 draws is .0023."""
    draws = draw(ALL, 1, 0, 20_000, 3)
    moved = (draws.order != np.arange(3)).any(axis=1)
    clean = ~draws.flip & (draws.quarter_turns == 0) & ~moved
    assert abs(clean.mean() - 1 / 8) < 0.01
    for part in (draws.flip, draws.quarter_turns > 0, moved):
        assert abs(part.mean() - 1 / 2) < 0.015
    turns = np.bincount(draws.quarter_turns, minlength=4)[1:] / 20_000
    np.testing.assert_allclose(turns, 1 / 6, atol=0.012)


def test_draws_depend_on_seed_and_step_alone():
    def key(seed, step):
        draws = draw(ALL, seed, step, 64, 3)
        return (draws.flip.tobytes(), draws.quarter_turns.tobytes(), draws.order.tobytes())

    assert key(5, 9) == key(5, 9)
    assert len({key(seed, step) for seed in range(3) for step in range(3)}) == 9


def test_turning_one_transform_off_leaves_the_others():
    both, one = draw(ALL, 3, 4, 100, 3), draw(Augmentation(flip=True), 3, 4, 100, 3)
    np.testing.assert_array_equal(both.flip, one.flip)
    assert not one.quarter_turns.any() and (one.order == np.arange(3)).all()


def make_dataset(shape=(4, 4, 3), num=40):
    spec = DataSpec("random", shape, 256, {"train": num}, content_hash="")
    return Dataset(spec, {"train": images(num, shape)})


def test_batches_are_augmented_and_say_so():
    data = make_dataset()
    clean = train_batch(data, 0, 2, 32)
    batch = train_batch(data, 0, 2, 32, augmentation=ALL)
    np.testing.assert_array_equal(batch.index, clean.index)
    changed = (batch.images != clean.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(batch.conditioning == 1, changed)
    assert changed.sum() > 16 and not clean.conditioning.any()
    np.testing.assert_array_equal(data.split("train"), images(40, (4, 4, 3)))  # the data stay


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_shares_of_augmented_batches_make_up_the_global_batch(process_count):
    data = make_dataset()
    whole = train_batch(data, 0, 5, 12, augmentation=ALL)
    shares = [
        train_batch(data, 0, 5, 12, "train", p, process_count, ALL) for p in range(process_count)
    ]
    for field in ("images", "index", "conditioning"):
        joined = np.concatenate([getattr(share, field) for share in shares])
        np.testing.assert_array_equal(joined, getattr(whole, field))


def test_evaluation_is_always_clean():
    for batch in eval_batches(make_dataset(), "train", 16):
        assert not batch.conditioning.any()


@pytest.mark.parametrize(
    ("augmentation", "shape", "message"),
    [
        (Augmentation(rotate=True), (4, 5, 3), "rotate=True: images of 4 x 5 are not square"),
        (Augmentation(permute_channels=True), (4, 4, 1), "permute_channels=True: images have 1"),
    ],
)
def test_transforms_that_do_not_fit_are_refused(augmentation, shape, message):
    with pytest.raises(ConfigError, match=message):
        train_batch(make_dataset(shape), 0, 0, 4, augmentation=augmentation)


def test_flips_need_no_squares():
    batch = train_batch(make_dataset((4, 6, 1)), 0, 0, 8, augmentation=Augmentation(flip=True))
    assert batch.images.shape == (8, 4, 6, 1) and batch.conditioning.any()
