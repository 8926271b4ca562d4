"""Batches as pure functions: training batches by number, evaluation batches in order."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from vdm.data.augment import Augmentation, apply, draw
from vdm.data.base import Dataset
from vdm.errors import ConfigError
from vdm.types import Batch


def train_indices(seed: int, step: int, batch_size: int, num_images: int) -> np.ndarray:
    """Return the image positions [B] (int64) of training batch number `step`.

    The batches of all steps, laid end to end, are one permutation of the images after another:
    each image comes once per epoch, and a batch may reach into the next epoch.

    Args:
      seed: seed of the order, 0 .. 2**32 - 1.
      step: batch number from 0.
      batch_size: images per batch B; may exceed num_images.
      num_images: size of the split.

    Raises:
      ConfigError: an argument is out of range.
    """
    # Beyond 32 bits, SeedSequence([seed, epoch]) would confuse seeds with epochs.
    _check_range("seed", seed, 0, 2**32)
    _check_range("step", step, 0)
    _check_range("batch_size", batch_size, 1)
    _check_range("num_images", num_images, 1)

    # Python integers: step * batch_size may exceed 32 bits in a long run.
    position, end = int(step) * int(batch_size), (int(step) + 1) * int(batch_size)
    slices = []
    while position < end:
        epoch, start = divmod(position, int(num_images))
        images = _permutation(int(seed), epoch, int(num_images))[start : start + end - position]
        slices.append(images)
        position += len(images)
    return np.concatenate(slices)


def train_batch(
    dataset: Dataset,
    seed: int,
    step: int,
    batch_size: int,
    split: str = "train",
    process_index: int = 0,
    process_count: int = 1,
    augmentation: Augmentation | None = None,
) -> Batch:
    """Return training batch number `step`, or one process's contiguous share of it.

    Args:
      dataset: the data.
      seed: seed of the order, 0 .. 2**32 - 1.
      step: batch number from 0.
      batch_size: images in the global batch B.
      split: name of the split.
      process_index: number of the share, 0 .. process_count - 1.
      process_count: number of shares P; only this share's images are read.
      augmentation: transforms drawn for each image; None for clean images.

    Returns:
      A Batch of numpy arrays with B / P images, in the order of the global batch.

    Raises:
      ConfigError: an argument is out of range, or batch_size is no multiple of process_count.
      DataError: there is no such split.
    """
    images = dataset.split(split)
    _check_range("process_count", process_count, 1)
    _check_range("process_index", process_index, 0, process_count)
    if batch_size % process_count:
        raise ConfigError(
            f"batch_size={batch_size}: must be a multiple of process_count={process_count}"
        )

    # The order is drawn for the global batch, and each process takes its part of it.
    share = batch_size // process_count
    index = train_indices(seed, step, batch_size, len(images))
    start, stop = process_index * share, (process_index + 1) * share
    batch = _batch(images, index[start:stop], np.ones(share, bool))

    # Transforms too are drawn for the global batch, so that any number of processes sees the same
    # images.
    if augmentation is None or not augmentation.is_active:
        return batch
    augmentation.check(images.shape[1:])
    transforms = draw(augmentation, seed, step, batch_size, images.shape[-1])
    changed, flags = apply(transforms.part(start, stop), np.asarray(batch.images))
    return batch.replace(images=changed, conditioning=flags)  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True, eq=False)
class EvalBatches:
    """The batches of one pass, each read when it is its turn; `len` is their number.

    Attributes:
      images: the images of the split [N,H,W,C].
      batch_size: images per batch B.
    """

    images: np.ndarray
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self.images), self.batch_size)
        return (_eval_batch(self.images, start, self.batch_size) for start in starts)


def eval_batches(dataset: Dataset, split: str, batch_size: int) -> EvalBatches:
    """Return every image of `split` once and in order, as Batches of numpy arrays of one size B.

    The last batch is padded with copies of the last image, whose mask is false: one size for all
    batches compiles one program.

    Args:
      dataset: the data.
      split: name of the split.
      batch_size: images per batch B.

    Raises:
      ConfigError: batch_size is less than 1.
      DataError: there is no such split.
    """
    images = dataset.split(split)
    _check_range("batch_size", batch_size, 1)
    return EvalBatches(images, batch_size)


def _eval_batch(images: np.ndarray, start: int, batch_size: int) -> Batch:
    """Return the batch that starts at image `start`, padded to `batch_size`."""
    positions = np.arange(start, start + batch_size)
    return _batch(images, np.minimum(positions, len(images) - 1), positions < len(images))


def _batch(images: np.ndarray, index: np.ndarray, mask: np.ndarray) -> Batch:
    """Return the images at positions `index` [B] as a Batch without augmentation.

    Args:
      images: integer codes of the split [N,H,W,C].
      index: positions in the split [B].
      mask: False for padding [B].
    """
    return Batch(
        # From a plain view, because indexing a memory map directly is a fifth slower.
        images=np.take(np.asarray(images), index, axis=0),
        index=index.astype(np.int32),
        mask=mask,
        conditioning=np.zeros(len(index), np.float32),
    )


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """Return the order of one epoch [N], cached because every batch of the epoch needs it."""
    key = np.random.SeedSequence([seed, epoch])
    order = np.random.Generator(np.random.PCG64(key)).permutation(num_images)
    order.setflags(write=False)  # shared by all callers of the cache
    return order.astype(np.int64, copy=False)


def _check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ConfigError unless low <= value < high; None for no upper limit."""
    if value < low or (high is not None and value >= high):
        bounds = f"at least {low}" if high is None else f"in {low}..{high - 1}"
        raise ConfigError(f"{name}={value!r}: must be {bounds}")
