"""The one loop over the images of a split: every evaluation visits them here.

Each batch is placed on the devices once and given to a step in every randomisation; padding is
stripped before anything is kept. What to keep of a batch is the caller's: values per image are joined
by `join`, values per dimension are summed batch by batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jax.sharding import Mesh

from vdm.runtime.devices import check_divisible, place_batch
from vdm.types import Batch


class Batches(Protocol):
    """A known number of batches, perhaps each made when it is its turn."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


Progress = Callable[[int, int], None]
"""(done, in all) -> None, counted in randomisations of a batch."""


Values = dict[Any, np.ndarray]
"""{name: values per image}; the order of the names is kept, and sums over names are in it."""


def silent(done: int, total: int) -> None:
    """No progress is reported."""
    del done, total


def visit(
    batches: Batches,
    step: Callable[[Batch, int], Mapping[Any, np.ndarray]],
    randomisations: int,
    mesh: Mesh,
    progress: Progress = silent,
) -> Iterator[tuple[np.ndarray, Values]]:
    """(positions [B], {name: [R,B,...]}) of the images of every batch, padding left out.

    Args:
      batches: every image once, padding masked; one is held at a time.
      step: (a placed batch, randomisation) -> {name: host array [B,...]}, padding included.
      randomisations: R, the number of times that each batch is evaluated.
      mesh: the devices; each batch must divide evenly.
      progress: called after every randomisation of every batch.
    """
    total = len(batches) * randomisations
    for number, batch in enumerate(batches):
        check_divisible("evaluate.batch_size", len(batch.index), mesh)
        placed, mask = place_batch(batch, mesh), np.asarray(batch.mask)
        rows = []
        for randomisation in range(randomisations):
            found = step(placed, randomisation)
            rows.append({name: value[mask] for name, value in found.items()})
            progress(number * randomisations + randomisation + 1, total)
        yield (
            np.asarray(batch.index)[mask],
            {n: np.stack([row[n] for row in rows]) for n in rows[0]},
        )


def join(found: Sequence[tuple[np.ndarray, Values]]) -> tuple[np.ndarray, Values]:
    """What `visit` gave of all batches as one: positions [N] and {name: [R,N,...]}."""
    index = np.concatenate([index for index, _ in found])
    names = found[0][1]
    return index, {n: np.concatenate([values[n] for _, values in found], axis=1) for n in names}
