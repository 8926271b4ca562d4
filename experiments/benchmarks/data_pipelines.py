"""The pipelines that `experiments.benchmarks.data` compares: each gives the images of one epoch."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vdm.data.augment import Augmentation
from vdm.data.base import Dataset
from vdm.data.batches import train_batch

Pipeline = Callable[[int], Iterator[Any]]
"""Epoch -> its batches, shuffled, each image once."""


def random_images(num_images: int) -> np.ndarray:
    """Images of 32x32x3, uint8."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)


def ours(data: Dataset, batch_size: int) -> dict[str, Pipeline]:
    """`train_batch` as training calls it, with and without augmentation; and bare indexing."""
    images = data.split("train")
    num_batches = len(images) // batch_size
    augmentation = Augmentation(flip=True, rotate=True, permute_channels=True)

    def indexing(epoch: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng(epoch).permutation(len(images))
        parts = order[: num_batches * batch_size].reshape(num_batches, batch_size)
        return (np.asarray(images[part]) for part in parts)

    def batches(epoch: int, **options) -> Iterator[Any]:
        steps = range(epoch * num_batches, (epoch + 1) * num_batches)
        return (train_batch(data, 0, step, batch_size, **options) for step in steps)

    return {
        "vdm train_batch": batches,
        "vdm train_batch, augmented": lambda epoch: batches(epoch, augmentation=augmentation),
        "numpy indexing": indexing,
    }


def tf_data(images: np.ndarray, batch_size: int) -> dict[str, Pipeline]:
    """Shuffled batches by tf.data, gathered by index or through a shuffle buffer."""
    import tensorflow as tf

    # In memory: tf.data has no memory-mapped source, and this is the fastest it has.
    held = tf.constant(images)

    def gathered(epoch: int) -> Iterator[Any]:
        indices = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=epoch)
        batches = indices.batch(batch_size, drop_remainder=True)
        return iter(
            batches.map(lambda index: tf.gather(held, index)).prefetch(2).as_numpy_iterator()
        )

    def permuted(epoch: int) -> Iterator[Any]:
        order = np.random.default_rng(epoch).permutation(len(images))
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        return iter(
            batches.map(lambda index: tf.gather(held, index)).prefetch(2).as_numpy_iterator()
        )

    def buffered(epoch: int) -> Iterator[Any]:
        source = tf.data.Dataset.from_tensor_slices(held).shuffle(10_000, seed=epoch)
        return iter(source.batch(batch_size, drop_remainder=True).prefetch(2).as_numpy_iterator())

    return {
        "tf.data, shuffled indices, gather": gathered,
        "tf.data, permutation by numpy, gather": permuted,
        "tf.data, shuffle buffer of 10,000, batch": buffered,
    }


def measure(
    pipelines: Mapping[str, Pipeline], num_images: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Images per second of processor time and of wall time, the best of so many rounds in turn."""
    best = dict.fromkeys(pipelines, (0.0, 0.0))
    for epoch in range(rounds + 1):
        for name, pipeline in pipelines.items():
            cpu, wall = time.process_time(), time.perf_counter()
            count = sum(1 for _ in pipeline(epoch))
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            # The first round warms caches.
            if count and epoch:
                best[name] = (
                    max(best[name][0], num_images / cpu),
                    max(best[name][1], num_images / wall),
                )
    return best
