"""The loop over the images of a split, which every evaluation shares.

Each batch is placed on the devices once and evaluated in every randomisation; padding is removed before
any value is returned. The caller decides what to keep: values per image are concatenated by `join`,
values per dimension would not fit the memory and are summed batch by batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jax.sharding import Mesh

from vdm.runtime.devices import check_divisible, place_batch
from vdm.types import Batch


class Batches(Protocol):
    """A known number of batches, which may be made one at a time, as `vdm.data.batches` does."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


Progress = Callable[[int, int], None]
"""(done, total) -> None, counted in randomisations of batches; may raise to stop an evaluation."""


Values = dict[Any, np.ndarray]
"""{key: values, images along a fixed axis}; sums over keys follow the order of insertion."""


def silent(done: int, total: int) -> None:
    """Ignore progress; the default of `visit`."""
    del done, total


def visit(
    batches: Batches,
    step: Callable[[Batch, int], Mapping[Any, np.ndarray]],
    randomisations: int,
    mesh: Mesh,
    progress: Progress = silent,
) -> Iterator[tuple[np.ndarray, Values]]:
    """Yield (positions [B], {key: [R,B,...]}) of the images of every batch, without padding.

    Args:
      batches: every image once, padding masked; one batch is in memory at a time.
      step: (a batch placed on the devices, randomisation) -> {key: host array [B,...]}, padding
        included.
      randomisations: R, how often each batch is evaluated, each time with other times and noise.
      mesh: the devices; their number must divide the batch size.
      progress: called after every randomisation of every batch.

    Raises:
      ConfigError: the batch size is no multiple of the number of devices.
    """
    total = len(batches) * randomisations
    for number, batch in enumerate(batches):
        check_divisible("evaluate.batch_size", len(batch.index), mesh)
        placed, mask = place_batch(batch, mesh), np.asarray(batch.mask)
        rows = []
        for randomisation in range(randomisations):
            values = step(placed, randomisation)
            rows.append({key: value[mask] for key, value in values.items()})
            progress(number * randomisations + randomisation + 1, total)
        yield (
            np.asarray(batch.index)[mask],
            {key: np.stack([row[key] for row in rows]) for key in rows[0]},
        )


def join(visited: Sequence[tuple[np.ndarray, Values]]) -> tuple[np.ndarray, Values]:
    """Concatenate what `visit` yields for all batches: (positions [N], {key: [R,N,...]})."""
    index = np.concatenate([index for index, _ in visited])
    keys = visited[0][1]
    return index, {k: np.concatenate([values[k] for _, values in visited], axis=1) for k in keys}
