"""Input pipelines that `experiments.benchmarks.data` compares; each yields one epoch in batches."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vdm.data.augment import Augmentation
from vdm.data.base import Dataset
from vdm.data.batches import train_batch

Pipeline = Callable[[int], Iterator[Any]]
"""Function from the number of an epoch to its shuffled batches, in which each image occurs once."""


def random_images(num_images: int) -> np.ndarray:
    """Return random images of CIFAR-10's size [N,32,32,3], uint8."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_images, 32, 32, 3), dtype=np.uint8)


def ours(data: Dataset, batch_size: int) -> dict[str, Pipeline]:
    """Return `train_batch` as training calls it, with and without augmentation, and bare indexing.

    Bare indexing gathers the same images without batch records, and is the least that any pipeline
    does.

    Args:
      data: the data set, memory-mapped.
      batch_size: images per batch; the last incomplete batch of an epoch is dropped.
    """
    images = data.split("train")
    num_batches = len(images) // batch_size
    augmentation = Augmentation(flip=True, rotate=True, permute_channels=True)

    def indexing(epoch: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng(epoch).permutation(len(images))
        batches_of_epoch = order[: num_batches * batch_size].reshape(num_batches, batch_size)
        return (np.asarray(images[batch]) for batch in batches_of_epoch)

    def batches(epoch: int, **options) -> Iterator[Any]:
        steps = range(epoch * num_batches, (epoch + 1) * num_batches)
        return (train_batch(data, 0, step, batch_size, **options) for step in steps)

    return {
        "vdm train_batch": batches,
        "vdm train_batch, augmented": lambda epoch: batches(epoch, augmentation=augmentation),
        "numpy indexing": indexing,
    }


def tf_data(images: np.ndarray, batch_size: int) -> dict[str, Pipeline]:
    """Return pipelines of tf.data: images gathered by shuffled index, or through a shuffle buffer.

    Args:
      images: [N,H,W,C], uint8.
      batch_size: images per batch.
    """
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
    """Measure every pipeline in turn, over one epoch per round.

    Args:
      pipelines: {name: pipeline}.
      num_images: images in an epoch.
      rounds: timed epochs, after one that warms caches; the fastest counts.

    Returns:
      {name: images per second of (processor time, wall time)}.
    """
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
